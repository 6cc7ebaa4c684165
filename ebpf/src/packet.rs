//! What egress and ingress share: reading a packet, and where its socket was turned.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use portcullis_ebpf_common::Turned;
use portcullis_ebpf_common::packet::{Ends, WORDS4, WORDS6, ends4, ends6};

use crate::{field, field64, turned};

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Both ends of the packet.
#[inline(always)]
pub fn ends(ctx: &SkBuffContext) -> Ends {
    match u16::from_be(field!(__sk_buff, ctx.skb.skb, protocol) as u16) {
        ETH_P_IP => {
            let mut words = [0; WORDS4];
            if load(ctx, &mut words) {
                return ends4(&words);
            }
        }
        ETH_P_IPV6 => {
            let mut words = [0; WORDS6];
            if load(ctx, &mut words) {
                return ends6(&words);
            }
        }
        _ => {}
    }
    Ends::UNREADABLE
}

/// The device that it leaves or comes in by.
#[inline(always)]
pub fn device(ctx: &SkBuffContext) -> u32 {
    field!(__sk_buff, ctx.skb.skb, ifindex)
}

/// Where the packet's socket was turned.
#[inline(always)]
pub fn turned(ctx: &SkBuffContext) -> Option<&'static Turned> {
    let sk = field64!(__sk_buff, ctx.skb.skb, __bindgen_anon_2) as *mut bpf_sock;
    if sk.is_null() {
        return None;
    }
    turned::of(sk)
}

#[inline(always)]
fn load<const N: usize>(ctx: &SkBuffContext, words: &mut [u32; N]) -> bool {
    let length = const { (N * 4) as u32 };
    // SAFETY: the buffer is `length` bytes long; the helper checks the packet's length.
    unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), 0, words.as_mut_ptr().cast(), length) == 0 }
}
