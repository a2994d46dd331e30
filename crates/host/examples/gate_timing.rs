//! Measures the gate: `cargo run --release -p hotpair-host --example gate_timing`.
//!
//! Prints what one permission costs, and how long traffic still passes after
//! a permission of 300 ms with nobody acting. Works in a network namespace of
//! its own, over its loopback interface; needs root and nft.

use std::error::Error;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use hotpair_host::net::gate::Gate;
use hotpair_host::net::netlink::{AddressOptions, Netlink};

const PERMISSION: Duration = Duration::from_millis(300);
const CALLS: u32 = 2000;
const ROUNDS: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    // SAFETY: the process has one thread; only its network changes.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET)? };
    let addresses: [IpAddr; 2] = ["10.1.0.100".parse()?, "fd01::100".parse()?];
    let mut netlink = Netlink::open()?;
    let lo = netlink.link_by_name("lo")?.ok_or("no loopback interface")?;
    netlink.set_link_up(lo.index, true)?;
    for address in addresses {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        netlink.set_address(lo.index, address, prefix, AddressOptions::default())?;
    }
    let start = Instant::now();
    let mut gate = Gate::install("gate_timing", &addresses)?;
    println!("install: {:.1} ms", ms(start.elapsed()));
    cost(&mut gate, &addresses)?;
    for address in addresses {
        overrun(&mut gate, address)?;
    }
    gate.remove()?;
    Ok(())
}

fn cost(gate: &mut Gate, addresses: &[IpAddr]) -> Result<(), Box<dyn Error>> {
    let grants: Vec<_> = addresses.iter().map(|a| (*a, PERMISSION)).collect();
    let mut times = Vec::new();
    for _ in 0..CALLS {
        times.push(gate.permit(&grants)?);
    }
    let start = Instant::now();
    assert!(gate.is_intact()?, "somebody changed the gate");
    println!("is_intact: {:.3} ms", ms(start.elapsed()));
    print_spread("permit, both addresses", times);
    Ok(())
}

/// Sends a datagram through the address to itself every half millisecond.
fn overrun(gate: &mut Gate, address: IpAddr) -> Result<(), Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let before = Instant::now();
        gate.permit(&[(address, PERMISSION)])?;
        let socket = UdpSocket::bind((address, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        let mut last = before;
        while before.elapsed() < PERMISSION * 2 {
            let mut byte = [0u8; 1];
            if socket.send(&[1]).is_ok() && socket.recv(&mut byte).is_ok() {
                last = Instant::now();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        times.push(last - before);
    }
    print_spread(
        &format!("last packet of {address} after a 300 ms permission"),
        times,
    );
    Ok(())
}

fn print_spread(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (first, last) = (times[0], times[times.len() - 1]);
    let median = times[times.len() / 2];
    println!(
        "{what}: min {:.3}, median {:.3}, max {:.3} ms ({} times)",
        ms(first),
        ms(median),
        ms(last),
        times.len()
    );
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
