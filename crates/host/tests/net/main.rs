//! The network adapters against a real kernel, in network namespaces of their
//! own. Needs root, `ip` (iproute2) and `nft` (nftables).

mod gate;
mod host;
mod links;
mod namespace;
mod neighbours;
