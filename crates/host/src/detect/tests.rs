use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Instant;

use rustix::process::Signal;

use super::*;
use crate::cgroup::Cgroup;
use crate::process::testing::{SOON, TestCgroup};
use crate::process::{LogFile, Program, Supervised};

/// Time limit of checks that are expected to hit it.
const SHORT: Duration = Duration::from_millis(200);

fn failed(result: Detected) -> String {
    match result {
        Detected::Failed(text) => text,
        other => panic!("{other:?}"),
    }
}

fn not_running(result: Detected) -> String {
    match result {
        Detected::NotRunning(text) => text,
        other => panic!("{other:?}"),
    }
}

/// A server on loopback that treats each connection with `serve`, on a thread that ends with the test process.
fn server(serve: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().flatten().take(100).for_each(serve));
    addr
}

/// A port of loopback nobody listens on.
fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
    }
}

fn http_server(answer: Vec<u8>) -> SocketAddr {
    server(move |mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(&answer);
    })
}

fn http_answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nlocation: /elsewhere\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn url(addr: SocketAddr) -> UrlCheck {
    UrlCheck {
        tries: 1,
        timeout: SOON,
        ..UrlCheck::new(format!("http://{addr}/"))
    }
}

fn tcp(addr: SocketAddr, timeout: Duration, question: Option<(&str, &str)>) -> Detected {
    let question = question.map(|(send, expect)| Question {
        send: send.into(),
        expect: expect.into(),
    });
    TcpCheck {
        addr,
        timeout,
        question,
    }
    .check()
}

#[test]
fn a_port_is_running_refused_or_silent() {
    let addr = server(|mut stream| {
        let mut word = [0; 4];
        let _ = stream.read_exact(&mut word);
        let _ = stream.write_all(b"+PO");
        let _ = stream.write_all(b"NG\r\n");
    });
    assert_eq!(tcp(addr, SOON, None), Detected::Running);
    assert_eq!(tcp(addr, SOON, Some(("ping", "+PONG"))), Detected::Running);
    assert!(failed(tcp(addr, SOON, Some(("ping", "+OK")))).contains("closed"));
    assert!(not_running(tcp(closed_port(), SOON, None)).contains("nothing listens"));
}

#[test]
fn a_port_that_accepts_and_never_answers_has_failed_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    assert_eq!(tcp(addr, SOON, None), Detected::Running);
    let text = failed(tcp(addr, SHORT, Some(("ping", ""))));
    assert!(
        text.contains("did not answer as expected within 200 ms"),
        "{text}"
    );
    let text = failed(
        UrlCheck {
            timeout: SHORT,
            ..url(addr)
        }
        .check(),
    );
    let in_time = ["did not answer within 200 ms", "no result within 250 ms"];
    assert!(in_time.iter().any(|known| text.contains(known)), "{text}");
}

#[test]
fn an_answer_dripping_byte_by_byte_has_failed_in_time() {
    let addr = server(|mut stream| {
        read_request(&mut stream);
        for byte in http_answer("200 OK", &[b'x'; 100_000]) {
            let (_keep, gap) = mpsc::channel::<()>();
            let _ = gap.recv_timeout(Duration::from_millis(20));
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let begin = Instant::now();
    let check = UrlCheck {
        timeout: SHORT,
        tries: 2,
        contains: Some("y".into()),
        ..url(addr)
    };
    failed(check.check());
    assert!(begin.elapsed() < SOON, "two tries of 200 ms");
}

#[test]
fn status_decides_unless_told_otherwise() {
    for (status, running) in [
        ("200 OK", true),
        ("204 No Content", true),
        ("302 Found", true),
        ("404 Not Found", false),
        ("503 Busy", false),
    ] {
        let result = url(http_server(http_answer(status, b""))).check();
        assert_eq!(result == Detected::Running, running, "{status}: {result:?}");
    }
    let addr = http_server(http_answer("401 Unauthorized", b""));
    assert_eq!(
        UrlCheck {
            status: 401..=401,
            ..url(addr)
        }
        .check(),
        Detected::Running
    );
    assert!(failed(url(addr).check()).contains("status 401, expected 200 to 399"));
}

#[test]
fn text_is_found_in_utf8_and_gbk_and_missed_otherwise() {
    let wanted = "登录成功";
    let far = |text: &[u8]| [&vec![b' '; 20_000][..], text].concat();
    let (gbk, ..) = encoding_rs::GBK.encode(wanted);
    let cases = [
        (far(wanted.as_bytes()), true),
        (far(&gbk), true),
        (far("登录失败".as_bytes()), false),
    ];
    for (body, running) in cases {
        let check = UrlCheck {
            contains: Some(wanted.into()),
            ..url(http_server(http_answer("200 OK", &body)))
        };
        let result = check.check();
        assert_eq!(result == Detected::Running, running, "{result:?}");
    }
}

#[test]
fn garbage_closed_ports_and_bad_urls_are_told_apart() {
    failed(url(http_server(b"SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n".to_vec())).check());
    failed(url(http_server(Vec::new())).check());
    assert!(not_running(url(closed_port()).check()).contains("nothing listens"));
    failed(
        UrlCheck {
            tries: 1,
            ..UrlCheck::new("not a url")
        }
        .check(),
    );
}

#[test]
fn a_later_try_may_succeed() {
    let left = std::sync::atomic::AtomicUsize::new(2);
    let addr = server(move |mut stream| {
        read_request(&mut stream);
        let busy = left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        let _ = stream.write_all(&http_answer(if busy { "503 Busy" } else { "200 OK" }, b""));
    });
    assert_eq!(
        UrlCheck {
            tries: 3,
            ..url(addr)
        }
        .check(),
        Detected::Running
    );
}

#[test]
fn https_is_answered_without_and_with_verification() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let addr = server(move |stream| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = rustls::StreamOwned::new(session, stream);
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        let _ = stream.write_all(&http_answer("200 OK", b"sealed"));
        let _ = stream.flush();
    });
    let check = UrlCheck {
        url: format!("https://localhost:{}/", addr.port()),
        contains: Some("sealed".into()),
        ..url(addr)
    };
    assert_eq!(check.check(), Detected::Running);

    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    std::fs::write(&roots, cert.pem()).unwrap();
    let verified = UrlCheck {
        verify: Verify::Roots(roots.clone()),
        ..check.clone()
    };
    assert_eq!(verified.check(), Detected::Running);
    let stranger = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    std::fs::write(&roots, stranger.cert.pem()).unwrap();
    failed(verified.check());
    let text = failed(
        UrlCheck {
            verify: Verify::Roots(dir.path().join("none")),
            ..check
        }
        .check(),
    );
    assert!(text.contains("cannot read"), "{text}");
}

fn listen(protocol: Protocol, port: u16, owner: Owner) -> Detected {
    ListenCheck {
        protocol,
        port,
        address: None,
        owner,
        timeout: SOON,
    }
    .check()
}

#[test]
fn a_listening_port_belongs_to_its_program() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let exe = std::env::current_exe().unwrap();
    let last = exe.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(listen(Protocol::Tcp, port, Owner::Any), Detected::Running);
    assert_eq!(
        listen(Protocol::Tcp, port, Owner::Program(last)),
        Detected::Running
    );
    assert_eq!(
        listen(
            Protocol::Tcp,
            port,
            Owner::Program(exe.to_str().unwrap().into())
        ),
        Detected::Running
    );
    let text = not_running(listen(Protocol::Tcp, port, Owner::Program("nginx".into())));
    assert!(
        text.contains(&format!("process {}", std::process::id())) && text.ends_with("not to nginx"),
        "{text}"
    );
    let group = TestCgroup::new();
    not_running(listen(Protocol::Tcp, port, Owner::Cgroup(group.0.clone())));
    let elsewhere = ListenCheck {
        protocol: Protocol::Tcp,
        port,
        address: Some("127.0.0.2".parse().unwrap()),
        owner: Owner::Any,
        timeout: SOON,
    };
    not_running(elsewhere.check());
    not_running(listen(Protocol::Tcp, closed_port().port(), Owner::Any));
}

#[test]
fn a_port_is_found_in_the_cgroup_that_listens() {
    let root = crate::cgroup::find_root().unwrap();
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let here = Cgroup::open(&root.join(own));
    if let Ok(here) = here {
        assert_eq!(
            listen(Protocol::Tcp, port, Owner::Cgroup(here)),
            Detected::Running
        );
    }
}

#[test]
fn a_bound_udp_port_is_told_from_a_tcp_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    assert_eq!(listen(Protocol::Udp, port, Owner::Any), Detected::Running);
    drop(socket);
    not_running(listen(Protocol::Udp, port, Owner::Any));
}

fn process(target: Target) -> Detected {
    ProcessCheck {
        target,
        timeout: SOON,
    }
    .check()
}

#[test]
fn a_process_is_found_by_name_words_and_file_until_it_ends() {
    let group = TestCgroup::new();
    let dir = tempfile::tempdir().unwrap();
    let log = LogFile::open(&dir.path().join("log")).unwrap();
    // The number of seconds is this test's own mark.
    let mark = format!("600.{}", std::process::id());
    let mut program = Supervised::spawn(
        &Program {
            cgroup: Some(group.0.clone()),
            ..Program::new(["sleep", &mark])
        },
        &log,
    )
    .unwrap();
    let path = dir.path().join("pid");
    std::fs::write(&path, format!("{}\n", program.pid())).unwrap();
    let by_words = Target::CommandLine(format!("sleep {mark}"));
    let by_file = |name: Option<&str>| Target::PidFile {
        path: path.clone(),
        name: name.map(Into::into),
    };
    for target in [
        Target::Name("sleep".into()),
        by_words.clone(),
        by_file(None),
        by_file(Some("sleep")),
    ] {
        assert_eq!(process(target.clone()), Detected::Running, "{target:?}");
    }
    assert!(not_running(process(by_file(Some("httpd")))).contains("is not httpd"));

    let pid = rustix::process::Pid::from_raw(program.pid()).unwrap();
    rustix::process::kill_process(pid, Signal::STOP).unwrap();
    let end = Instant::now() + SOON;
    while crate::process::stat(program.pid()).unwrap().state != 'T' && Instant::now() < end {
        std::thread::yield_now();
    }
    assert!(failed(process(by_words.clone())).contains("stopped by a signal"));
    assert!(failed(process(by_file(None))).contains("stopped by a signal"));

    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    rustix::event::poll(
        &mut [rustix::event::PollFd::new(
            &program,
            rustix::event::PollFlags::IN,
        )],
        None,
    )
    .unwrap();
    not_running(process(by_words.clone()));
    program.wait(SOON).unwrap();
    not_running(process(by_words));
    assert!(not_running(process(by_file(None))).contains("has ended"));
    std::fs::write(&path, "garbage").unwrap();
    assert!(failed(process(by_file(None))).contains("no process number"));
    std::fs::remove_file(&path).unwrap();
    not_running(process(by_file(None)));
}

#[test]
fn a_script_runs_or_not_or_fails() {
    let group = TestCgroup::new();
    let script = |text: &str, timeout| {
        ScriptCheck {
            program: group.script(text),
            timeout,
        }
        .check()
    };
    assert_eq!(script("exit 0", SOON), Detected::Running);
    let text = not_running(script("echo database is down; echo; exit 7", SOON));
    assert!(
        text.contains("exit code 7, it said: database is down"),
        "{text}"
    );
    assert!(
        failed(script("echo asking; exec sleep 600", SHORT))
            .contains("did not end within 200 ms, it said: asking")
    );
    assert!(failed(script("kill -9 $$", SOON)).contains("signal 9"));
    let missing = ScriptCheck {
        program: Program::new(["/no/such/check"]),
        timeout: SOON,
    };
    assert!(failed(Check::Script(missing).check()).contains("/no/such/check"));
}

#[test]
fn stuck_checks_are_given_up_on_and_bounded_in_number() {
    static OWN: AtomicUsize = AtomicUsize::new(0);
    let (release, gate) = mpsc::channel::<()>();
    let gate = Arc::new(std::sync::Mutex::new(gate));
    let stick = || {
        let gate = Arc::clone(&gate);
        bounded_among(&OWN, Duration::from_millis(1), move || {
            let _ = gate.lock().map(|gate| gate.recv());
            Detected::Running
        })
    };
    let texts: Vec<String> = (0..STUCK_LIMIT + 4).map(|_| failed(stick())).collect();
    assert!(texts[0].contains("no result within 1 ms"), "{texts:?}");
    assert!(texts.last().unwrap().contains("still stuck"), "{texts:?}");
    drop(release);
}
