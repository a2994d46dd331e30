//! Texts of the greatest length that try to cost time or memory are refused in bounded work.

use hotpair_config::{MAX_FINDINGS, MAX_TEXT, any_error, check, render};

const HEAD: &str = "[cluster]\nname = \"c\"\n[[node]]\nname = \"n\"\n[[link]]\nname = \"l\"\naddresses = { n = \"10.0.0.1\" }\n";

/// `head`, then `part` of each number until the text is as long as it may be, then `tail`.
#[track_caller]
fn refused(head: &str, part: impl Fn(usize) -> String, tail: &str) {
    let mut text = format!("{HEAD}{head}");
    for number in 0.. {
        let next = part(number);
        if text.len() + next.len() + tail.len() > MAX_TEXT {
            break;
        }
        text += &next;
    }
    text += tail;
    let found = check("hostile", &text, None).unwrap_err();
    assert!(any_error(&found));
    assert!(found.len() <= MAX_FINDINGS + 1);
    assert!(!render(&found, "hostile", &text, false).is_empty());
}

#[test]
fn refuses_deep_nesting() {
    refused("x = ", |_| "[".to_owned(), "");
    refused("x = ", |_| "{a=".to_owned(), "");
    refused("[a", |_| ".a".to_owned(), "]\n");
}

#[test]
fn refuses_one_key_many_times() {
    refused("", |_| "x = 1\n".to_owned(), "");
}

#[test]
fn refuses_long_lists() {
    let group = "[group.g]\nnodes = [\"n\"]\n[group.g.address.a]\naddress = \"10.0.0.9/24\"\n";
    refused(&format!("{group}nics = ["), |n| format!("\"e{n}\","), "]\n");
    refused("[group.g]\nnodes = [", |n| format!("\"n{n}\","), "]\n");
    refused(
        "[witness]\nname = \"w\"\naddresses = [",
        |n| format!("\"10.0.0.1:{}\",", n % 60_000 + 1),
        "]\n",
    );
}

#[test]
fn refuses_a_long_chain_and_many_cycles() {
    let part = |n: usize| {
        format!(
            "[group.g.service.s{n}]\ncommand=\"/b{n}\"\nrequires=[\"s{}\"]\n",
            n + 1
        )
    };
    refused("[group.g]\nnodes = [\"n\"]\n", part, "");
    let part = |n: usize| {
        format!(
            "[group.g.service.s{n}]\ncommand=\"/b{n}\"\nrequires=[\"s{}\"]\n",
            n ^ 1
        )
    };
    refused("[group.g]\nnodes = [\"n\"]\n", part, "");
}

#[test]
fn refuses_many_small_groups() {
    refused("", |n| format!("[group.g{n}]\nnodes = [\"n\"]\n"), "");
}

#[test]
fn refuses_one_long_line_and_many_errors_on_it() {
    refused("[group.g]\nnodes = [", |n| format!("{n},"), "]\n");
    refused("[cluster.", |_| "x".to_owned(), "]\n");
}

#[test]
fn refuses_many_mirrors_and_mounts_on_each_other() {
    let device = "size=\"1MiB\"\ndevice={n=\"/s\"}\n";
    let part = |n: usize| format!("[group.g.mirror.m{n}]\n{device}");
    refused("[group.g]\nnodes=[\"n\"]\n", part, "");
    let part = |n: usize| format!("[group.g{n}]\nnodes=[\"n\"]\n[group.g{n}.mirror.m]\n{device}");
    refused("", part, "");
    let part =
        |n: usize| format!("[group.g{n}]\nnodes=[\"n\"]\n[group.g{n}.mount.m]\npath=\"/s/{n}\"\n");
    refused("", part, "");
    // Each below the others.
    let part = |n: usize| {
        let m = n + 1;
        format!(
            "[group.g.mount.m{n}]\nmirror=\"m\"\nrequires=[\"m{m}\"]\npath=\"/s{}\"\n",
            "/x".repeat(n % 99)
        )
    };
    refused("[group.g]\nnodes=[\"n\"]\n", part, "");
    let part = |n: usize| {
        format!(
            "[group.g.mirror.m{n}]\n{device}[group.g.mount.f{n}]\npath=\"/t{n}\"\n\
             [[group.g.mount.f{n}.detector]]\nscript=\"/x{n}\"\n"
        )
    };
    refused("[group.g]\nnodes=[\"n\"]\n", part, "");
}
