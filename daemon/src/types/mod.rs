//! Words that every module shares: identifiers, addresses, secrets, principals.
//!
//! Each is a newtype so that two of them can't be swapped. Imports nothing of ours.

mod addr;
mod duration;
mod ids;
mod principal;
mod secret;

pub use addr::{OrigDst, PeerAddr};
pub use duration::parse_duration;
pub use ids::{CgroupId, ConnectionId, RequestId, SessionId};
pub use principal::{Principal, Proof, RoleName, ServiceName, TokenFacts};
pub use secret::{Credential, Secret};
