//! `cgroup/setsockopt`: only options that don't change where packets go. Linux 6.1.
//!
//! The verdict is on level and name alone: the value is the process's to change until the
//! kernel has copied it.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sockopt};
use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::SockoptContext;
use portcullis_ebpf_common::{hook, options, reason};

use crate::event::{Attempt, Author, EACCES, PASS, fail, report_with};
use crate::{field, field64, session, set_field};

#[inline(always)]
pub fn run(ctx: &SockoptContext) -> i32 {
    let level = field!(bpf_sockopt, ctx.sockopt, level);
    let option = field!(bpf_sockopt, ctx.sockopt, optname);
    if options::may_set(level, option) {
        // The kernel takes the process's own bytes, not the copy made for this program,
        // which ends after a page.
        set_field!(bpf_sockopt, ctx.sockopt, optlen = 0);
        return PASS;
    }
    let sk = field64!(bpf_sockopt, ctx.sockopt, __bindgen_anon_1) as *mut bpf_sock;
    let attempt = Attempt {
        hook: hook::SETSOCKOPT,
        family: field!(bpf_sock, sk, family),
        kind: field!(bpf_sock, sk, type_),
        protocol: field!(bpf_sock, sk, protocol),
        // SAFETY: the helper takes this program's context.
        netns: unsafe { bpf_get_netns_cookie(ctx.as_ptr()) },
        dst: [0; 4],
        port: 0,
    };
    let place = session::current();
    report_with(&attempt, &place, reason::OPTION, Author::Running, |event| {
        event.level = level;
        event.option = option;
    });
    fail(EACCES)
}
