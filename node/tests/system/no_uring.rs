//! Hosts without io_uring: a seccomp filter takes it away from the node, as the default
//! profiles of container runtimes do.

use std::process::Command;
use std::thread;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::process::{Io, Node, corelane, run, serve};

/// Runs `test` on a thread whose children have no io_uring: every call of it gives `errno`.
fn without_uring<T: Send + 'static>(errno: i32, test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = thread::spawn(move || {
        let calls =
            [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];
        let filter = SeccompFilter::new(
            calls.into_iter().map(|call| (call, Vec::new())).collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
            std::env::consts::ARCH.try_into().expect("an architecture with seccomp"),
        );
        let program: BpfProgram = filter.expect("a filter").try_into().expect("a program");
        apply_filter(&program).expect("the kernel has seccomp");
        test()
    });
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn assert_says_why(command: Command) {
    let ended = run(command);
    assert_eq!((ended.code(), ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    for words in ["seccomp filter refuses", "io_uring_setup", "docker run", "--io epoll"] {
        assert!(ended.stderr.contains(words), "{words:?} not in {ended:?}");
    }
}

#[test]
fn the_node_says_what_takes_uring_away() {
    for errno in [libc::EPERM, libc::ENOSYS] {
        without_uring(errno, || {
            assert_says_why(serve(Io::Uring, &[]));
            assert_says_why(serve(Io::Uring, &["--cores", "3", "--memory", "128MiB"]));
            // What is chosen by itself is not silently something slower.
            assert_says_why(corelane(&[
                "--io",
                "auto",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "none",
                "--http",
                "none",
            ]));
        });
    }
}

#[test]
fn the_readiness_loop_serves_without_uring() {
    without_uring(libc::EPERM, || {
        let node = Node::start(Io::Epoll, &["--cores", "2"]);
        assert_eq!(node.ready["io"], "epoll");
        node.assert_serves();
        node.signal(rustix::process::Signal::TERM);
        assert_eq!(node.ended().code(), Some(0));
    });
}

#[test]
fn the_doctor_finds_it() {
    without_uring(libc::EPERM, || {
        let ended = run(corelane(&["doctor", "--io", "uring", "--memory", "64m", "--cores", "1"]));
        assert_eq!(ended.code(), Some(1), "{ended:?}");
        assert!(ended.stdout.contains("seccomp"), "{ended:?}");
        assert!(ended.stdout.contains("--io epoll"), "{ended:?}");
    });
}
