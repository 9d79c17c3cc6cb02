//! The whole of it once, on the kernel that runs: established, in force, given up rights, established again, taken away.
//! One test in one process, which moves into a cgroup of its own. Needs root.

#![allow(unsafe_code)] // one system call that no library makes

use relay_ebpf::abi::counter::Counter;
use relay_ebpf::abi::option::{LEVEL, ROUND_ROBIN, TAG};
use relay_ebpf::abi::record::Event;
use relay_ebpf::{
    AccountPlan, AttachedTo, Drift, Feature, Kernel, Places, Plan, TenantPlan, detach,
    drop_capabilities, status,
};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A bpffs and a cgroup of the test's own, removed at the end.
struct Site {
    directory: tempfile::TempDir,
    places: Places,
    cgroup_before: PathBuf,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let flags = MountFlags::empty();
        mount("bpf", directory.path(), "bpf", flags, None).expect("a bpffs");
        let cgroup_before = own_cgroup();
        let name = format!("relay-smoke-{}", std::process::id());
        let places = Places {
            cgroup: Some(cgroup_before.join(name)),
            pins: directory.path().join("pins"),
        };
        Self {
            directory,
            places,
            cgroup_before,
        }
    }

    fn cgroup(&self) -> &Path {
        self.places.cgroup.as_deref().expect("a cgroup")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::write(self.cgroup_before.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(self.cgroup());
        let _ = unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// The cgroup of this process, by the first cgroup2 mount.
fn own_cgroup() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.and_then(|line| line.split(' ').nth(4));
    let groups = fs::read_to_string("/proc/self/cgroup").expect("the groups");
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    Path::new(mount.expect("a cgroup2 mount")).join(group.expect("a group of version 2"))
}

fn plan() -> Plan {
    Plan {
        tenants: vec![TenantPlan {
            connections_max: Some(2),
            networks: Vec::new(),
        }],
        accounts: vec![AccountPlan {
            connections_max: Some(3),
            egress: vec![Ipv4Addr::new(127, 0, 7, 1).into()],
        }],
        source_connections_max: None,
        control_destinations: Vec::new(),
        workers: 2,
    }
}

fn socket() -> Socket {
    Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket")
}

fn tag(socket: &Socket, tenant: Option<u32>) -> io::Result<()> {
    let value = Plan::tag(tenant, 0, ROUND_ROBIN).bytes();
    // SAFETY: the value is there until the call returns, and as long as is said.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            LEVEL,
            TAG,
            value.as_ptr().cast(),
            value.len() as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn connect(tenant: Option<u32>, to: SocketAddr) -> io::Result<Socket> {
    let socket = socket();
    tag(&socket, tenant)?;
    socket.connect(&SockAddr::from(to))?;
    Ok(socket)
}

fn untagged(to: SocketAddr) -> Result<(), Option<i32>> {
    let result = socket().connect(&SockAddr::from(to));
    result.map_err(|error| error.raw_os_error())
}

/// Waits until it holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Two connections, one of a tenant; the events of both; then none.
fn check_connections(kernel: &mut Kernel, server: SocketAddr) {
    let live = kernel.live();
    let first = connect(Some(0), server).expect("within the caps");
    let second = connect(None, server).expect("within the caps");
    let source = first.local_addr().expect("an address").as_socket();
    let source = source.expect("an address of IPv4").ip();
    assert_eq!(source, Ipv4Addr::new(127, 0, 7, 1));
    assert_eq!(
        (live.tenant_upstream(0), live.account(0), live.address(0)),
        (1, 2, 2)
    );
    let third = connect(Some(0), server).expect("within the caps");
    let full = connect(Some(0), server).expect_err("the tenant is full");
    assert_eq!(full.raw_os_error(), Some(libc::EDQUOT));
    let full = connect(None, server).expect_err("the account is full");
    assert_eq!(full.raw_os_error(), Some(libc::EUSERS));
    let paths = kernel
        .surveyor()
        .expect("a surveyor")
        .survey()
        .expect("a survey");
    let path = paths.iter().find(|path| path.destination == server);
    let path = path.expect("the path");
    assert_eq!((path.source, path.account, path.open), (source, 0, 3));
    drop((first, second, third));
    until("all places are given back", || {
        (live.tenant_upstream(0), live.account(0), live.address(0)) == (0, 0, 0)
    });
    let mut kinds = Vec::new();
    until("six events", || {
        kernel.take_events(|event| kinds.push(event.kind));
        kinds.len() >= 6
    });
    let opened = kinds.iter().filter(|kind| **kind == Event::OPENED);
    assert_eq!((opened.count(), kinds.len()), (3, 6));
}

/// Counts that move all the time are not taken for wrong ones.
fn check_moving_counts(kernel: &Kernel, server: SocketAddr) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    // Refused or not; what is established is reset, so that no port stays behind.
                    if let Ok(socket) = connect(Some(0), server) {
                        let _ = socket.set_linger(Some(Duration::ZERO));
                    }
                }
            });
        }
        let mut reconciler = kernel.reconciler().expect("a reconciler");
        let compared: Vec<_> = (0..30).map(|_| reconciler.compare()).collect();
        is_over.store(true, Ordering::Relaxed);
        for drift in compared {
            assert_eq!(drift.expect("compared").corrected, 0);
        }
    });
}

/// All that a gateway does while it runs, without any right.
fn check_without_rights(mut kernel: Kernel, server: SocketAddr) {
    let thread = std::thread::spawn(move || {
        drop_capabilities().expect("given up");
        assert_eq!(kernel.check_canary(), Ok(()));
        check_connections(&mut kernel, server);
        let connection = connect(Some(0), server).expect("within the caps");
        let mut reconciler = kernel.reconciler().expect("a reconciler");
        for _ in 0..2 {
            let drift = reconciler.compare().expect("compared");
            let expected = Drift {
                sockets: 1,
                ..Drift::default()
            };
            assert_eq!(drift, expected);
        }
        drop(connection);
        check_moving_counts(&kernel, server);
        kernel.live().renew_lease(Duration::from_secs(30));
        let surveyor = kernel.surveyor().expect("a surveyor");
        assert_eq!(surveyor.accounts_sharing_address(), Ok(0));
    });
    thread.join().expect("it does without");
}

/// Who cannot be helped is told so in one line, and is back in its cgroup with nothing left behind.
fn check_refusals(site: &Site) {
    let elsewhere = Places {
        pins: std::env::temp_dir().join("relay-smoke-no-bpffs"),
        ..site.places.clone()
    };
    let no_group = Places {
        cgroup: Some(site.directory.path().join("no-group")),
        ..site.places.clone()
    };
    let mut twice = plan();
    twice.accounts.push(twice.accounts[0].clone());
    let refused = [
        (&elsewhere, plan(), "bpffs"),
        (&no_group, plan(), "cgroup"),
        (&site.places, twice, "plan"),
    ];
    for (places, plan, piece) in refused {
        let missing = Kernel::establish(places, &plan).err().expect("refused");
        assert_eq!(missing.piece, piece, "{missing}");
        assert!(!missing.detail.contains('\n'), "{missing}");
        assert_eq!(own_cgroup(), site.cgroup_before, "{missing}");
    }
    assert!(!site.directory.path().join("no-group").exists());
    let nothing = status(&site.places).expect("a status");
    assert_eq!((nothing.links, nothing.live), (Vec::new(), Vec::new()));
    assert_eq!(detach(&site.places), Ok(Vec::new()));
}

#[test]
fn established_in_force_and_taken_away() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: this test needs root");
        return;
    }
    let site = Site::new();
    check_refusals(&site);
    // What an older version has left beside; nothing of it stays.
    fs::create_dir_all(site.places.pins.join("v0/links")).expect("a directory");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let server = listener.local_addr().expect("its address");
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let kernel = Kernel::establish(&site.places, &plan()).expect("established");
    let missing: &[(Feature, _)] = kernel.missing();
    assert_eq!(missing, [], "all features");
    assert_eq!(own_cgroup(), site.cgroup());
    assert!(!site.places.pins.join("v0").exists());
    let in_use = Kernel::establish(&site.places, &plan())
        .err()
        .expect("refused");
    assert_eq!(in_use.piece, "in_use");
    assert!(
        in_use.detail.contains(&std::process::id().to_string()),
        "{in_use}"
    );
    assert_eq!(detach(&site.places).expect_err("in use").piece, "in_use");
    assert_eq!(untagged(server), Err(Some(libc::EPERM)));
    assert_eq!(kernel.live().counter(Counter::UntaggedRefused), 1);
    check_without_rights(kernel, server);

    // Nobody has them open, and they are in force.
    assert_eq!(untagged(server), Err(Some(libc::EPERM)));
    let before = status(&site.places).expect("a status");
    assert_eq!(before.held_by, None);
    let links = before.links.iter();
    assert_eq!(
        links
            .filter(|link| link.attached_to == AttachedTo::Cgroup)
            .count(),
        5
    );
    let from_anywhere = Places {
        cgroup: None,
        ..site.places.clone()
    };
    let found = status(&from_anywhere).expect("a status");
    assert_eq!(found.cgroup.as_deref(), Some(site.cgroup()));
    assert_eq!((&found.links, &found.live), (&before.links, &before.live));
    let kernel = Kernel::establish(&site.places, &plan()).expect("established again");
    let after = status(&site.places).expect("a status");
    assert_eq!(after.held_by, Some(std::process::id()));
    let programs = |status: &relay_ebpf::Status| -> Vec<u32> {
        status.links.iter().map(|link| link.program_id).collect()
    };
    assert_ne!(programs(&before), programs(&after), "replaced");
    assert_eq!(kernel.live().counter(Counter::UntaggedRefused), 2);
    drop(kernel);

    let removed = detach(&site.places).expect("detached");
    assert_eq!(removed.len(), 5 + 22, "{removed:?}");
    // The kernel frees a link a moment after its last pin is gone.
    until("nothing governs it", || untagged(server) == Ok(()));
    assert!(!site.places.pins.join("v1").exists());
}
