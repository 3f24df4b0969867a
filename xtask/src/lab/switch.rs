//! A switch with two mirror ports, out of network namespaces.
//!
//! ```text
//!  phone-a ── port-a ┐                 ┌ port-b ── phone-b
//!                    ├ bridge (switch) ┤
//!                    └── tc mirred ────┴─┬─> mon0 ── eth0 (monitor)
//!                                        └─> mon1 ── eth1
//! ```
//!
//! Where phones turn to somebody else, there is a third host at a third port, mirrored like theirs.
//!
//! Both mirror ports show the same, so that two ways to capture can be compared on one call. What is sent is as it
//! would be on a wire: nobody leaves a checksum or a division into segments to hardware that a veth does not have.
//!
//! Namespaces carry our process id, so that two runs do not meet and the left-overs of a killed run are known.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::run;
use super::wire::Endpoint;

const PREFIX: &str = "spantape-";

/// The switch's end and the monitor's end of each mirror port.
pub(crate) const MIRROR_PORTS: [(&str, &str); 2] = [("mon0", "eth0"), ("mon1", "eth1")];

/// What the switch copies to its mirror port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mirror {
    /// What enters a phone's port: every frame once.
    Ingress,
    /// What enters and what leaves: every frame between two phones twice.
    Both,
}

/// Which addresses the phones have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// The calling and the called phone, and whom they turn to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phone {
    A,
    B,
    /// A recorder, or a web server.
    Server,
}

impl Phone {
    const ALL: [Phone; 3] = [Phone::A, Phone::B, Phone::Server];

    pub(crate) fn ip(self, family: Family) -> IpAddr {
        match (self, family) {
            (Self::A, Family::V4) => [10, 20, 0, 9].into(),
            (Self::B, Family::V4) => [10, 20, 0, 10].into(),
            (Self::Server, Family::V4) => [10, 20, 0, 20].into(),
            (Self::A, Family::V6) => [0xfd00, 0x20, 0, 0, 0, 0, 0, 9].into(),
            (Self::B, Family::V6) => [0xfd00, 0x20, 0, 0, 0, 0, 0, 0x10].into(),
            (Self::Server, Family::V6) => [0xfd00, 0x20, 0, 0, 0, 0, 0, 0x20].into(),
        }
    }

    /// The phones are a Yealink and a Snom, by their vendor prefix.
    pub(crate) fn mac(self) -> [u8; 6] {
        match self {
            Self::A => [0x00, 0x15, 0x65, 0x74, 0xb1, 0x50],
            Self::B => [0x00, 0x04, 0x13, 0xaa, 0x10, 0x10],
            Self::Server => [0x02, 0, 10, 20, 0, 20],
        }
    }

    pub(crate) fn endpoint(self, port: u16) -> Endpoint {
        Endpoint { mac: self.mac(), ip: self.ip(Family::V4), port }
    }

    fn name(self) -> &'static str {
        match self {
            Self::A => "phone-a",
            Self::B => "phone-b",
            Self::Server => "server",
        }
    }

    fn port(self) -> &'static str {
        match self {
            Self::A => "port-a",
            Self::B => "port-b",
            Self::Server => "port-s",
        }
    }
}

/// The namespaces of one run; they go when this does.
pub(crate) struct Lab {
    prefix: String,
}

impl Lab {
    /// Two phones, whose ports are mirrored.
    pub(crate) fn build(mirror: Mirror) -> Result<Self> {
        Self::of(&[Phone::A, Phone::B], mirror)
    }

    /// The same with a server beside them.
    pub(crate) fn with_server(mirror: Mirror) -> Result<Self> {
        Self::of(&Phone::ALL, mirror)
    }

    fn of(phones: &[Phone], mirror: Mirror) -> Result<Self> {
        let lab = Self::without_phones()?;
        let switch = lab.namespace("switch");
        run(&format!("ip -n {switch} link add br0 type bridge stp_state 0 mcast_snooping 0"))?;
        for &phone in phones {
            run(&format!("ip netns add {}", lab.namespace(phone.name())))?;
            lab.plug(phone)?;
        }
        run(&format!("ip -n {switch} link set br0 up"))?;
        for &phone in phones {
            lab.address(phone)?;
            lab.mirror(phone, mirror)?;
        }
        Ok(lab)
    }

    /// Only the mirror ports: nothing passes but what is sent from the switch's end.
    pub(crate) fn without_phones() -> Result<Self> {
        Self::with_queues(1)
    }

    /// The same, with so many queues a port. What is sent on one at the switch's end is received on the same.
    pub(crate) fn with_queues(queues: u32) -> Result<Self> {
        let lab = Self { prefix: format!("{PREFIX}{}-", std::process::id()) };
        // Neither the bridge nor its ports may speak: only phones are to be heard at the mirror port.
        for name in ["switch", "monitor"] {
            run(&format!("ip netns add {}", lab.namespace(name)))?;
            lab.quiet(name)?;
        }
        let (switch, monitor) = (lab.namespace("switch"), lab.namespace("monitor"));
        for (near, far) in MIRROR_PORTS {
            let queues = format!("numtxqueues {queues} numrxqueues {queues}");
            run(&format!(
                "ip -n {switch} link add {near} {queues} type veth peer name {far} netns {monitor} {queues}"
            ))?;
            lab.plain("switch", near)?;
            lab.plain("monitor", far)?;
            run(&format!("ip -n {switch} link set {near} up"))?;
            run(&format!("ip -n {monitor} link set {far} up"))?;
        }
        Ok(lab)
    }

    /// The switch may send the monitor larger frames than a veth has room for with XDP in its driver.
    pub(crate) fn allow_large_frames(&self) -> Result<()> {
        for (near, _) in MIRROR_PORTS {
            run(&format!("ip -n {} link set {near} mtu 9000", self.namespace("switch")))?;
        }
        Ok(())
    }

    /// `program`, to be run at a phone.
    pub(crate) fn at_phone(&self, phone: Phone, program: &str, folder: &Path) -> Command {
        let mut command = self.inside(phone.name(), program);
        command.current_dir(folder);
        command
    }

    pub(crate) fn at_monitor(&self, program: &str) -> Command {
        self.inside("monitor", program)
    }

    pub(crate) fn at_switch(&self, program: &str) -> Command {
        self.inside("switch", program)
    }

    /// Does something in the switch's namespace. Sockets opened there stay there.
    pub(crate) fn within_switch<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.within("switch", job)
    }

    /// The same in the monitor's.
    pub(crate) fn within_monitor<T: Send>(&self, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.within("monitor", job)
    }

    /// The same at a phone.
    pub(crate) fn within_phone<T: Send>(
        &self,
        phone: Phone,
        job: impl FnOnce() -> Result<T> + Send,
    ) -> Result<T> {
        self.within(phone.name(), job)
    }

    fn within<T: Send>(&self, name: &str, job: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new("/run/netns").join(self.namespace(name));
        let namespace = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        // A thread of its own, as it never comes back from there.
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .with_context(|| format!("enter the namespace of the {name}"))?;
            job()
        };
        std::thread::scope(|scope| scope.spawn(inside).join())
            .map_err(|_| anyhow!("what was to be done at the {name} was not finished"))?
    }

    fn inside(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name), program]);
        command
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn quiet(&self, name: &str) -> Result<()> {
        let namespace = self.namespace(name);
        for scope in ["all", "default"] {
            run(&format!("ip netns exec {namespace} sysctl -q -w net.ipv6.conf.{scope}.disable_ipv6=1"))?;
        }
        Ok(())
    }

    /// As little offloading as a wire has.
    fn plain(&self, name: &str, interface: &str) -> Result<()> {
        let namespace = self.namespace(name);
        run(&format!("ip netns exec {namespace} ethtool -K {interface} tx off tso off gso off gro off"))?;
        Ok(())
    }

    fn plug(&self, phone: Phone) -> Result<()> {
        let (switch, namespace, port) =
            (self.namespace("switch"), self.namespace(phone.name()), phone.port());
        run(&format!("ip -n {switch} link add {port} type veth peer name eth0 netns {namespace}"))?;
        self.plain("switch", port)?;
        self.plain(phone.name(), "eth0")?;
        run(&format!("ip -n {switch} link set {port} master br0 up"))?;
        run(&format!("ip -n {namespace} link set eth0 address {}", text_of(phone.mac())))?;
        Ok(())
    }

    /// Neighbours are fixed, so that a capture holds the calls and nothing else.
    fn address(&self, phone: Phone) -> Result<()> {
        let namespace = self.namespace(phone.name());
        let others = || Phone::ALL.into_iter().filter(|other| *other != phone);
        run(&format!("ip -n {namespace} link set lo up"))?;
        run(&format!("ip -n {namespace} link set eth0 up"))?;
        for (family, prefix) in [(Family::V4, "24"), (Family::V6, "64 nodad")] {
            run(&format!("ip -n {namespace} address add {}/{prefix} dev eth0", phone.ip(family)))?;
            for other in others() {
                run(&format!(
                    "ip -n {namespace} neighbour replace {} lladdr {} dev eth0 nud permanent",
                    other.ip(family),
                    text_of(other.mac())
                ))?;
            }
        }
        Ok(())
    }

    fn mirror(&self, phone: Phone, mirror: Mirror) -> Result<()> {
        let (switch, port) = (self.namespace("switch"), phone.port());
        run(&format!("tc -n {switch} qdisc add dev {port} clsact"))?;
        let sides: &[&str] = match mirror {
            Mirror::Ingress => &["ingress"],
            Mirror::Both => &["ingress", "egress"],
        };
        for side in sides {
            let copies = MIRROR_PORTS.map(|(near, _)| format!("action mirred egress mirror dev {near}"));
            run(&format!(
                "tc -n {switch} filter add dev {port} {side} protocol all u32 match u32 0 0 {}",
                copies.join(" ")
            ))?;
        }
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove_all(&self.prefix);
    }
}

/// Removes the namespaces of runs that were killed before they could, and what still runs in them.
pub(crate) fn remove_leftovers() -> Result<()> {
    for name in namespaces() {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let Some(owner) = rest.split('-').next().and_then(|id| id.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            // A namespace lives on, nameless, for as long as a program is in it.
            for program in run(&format!("ip netns pids {name}"))?.split_whitespace() {
                // It may have ended by itself in the meantime.
                let _ = run(&format!("kill -KILL {program}"));
            }
            run(&format!("ip netns delete {name}"))?;
        }
    }
    Ok(())
}

fn remove_all(prefix: &str) {
    for name in namespaces().iter().filter(|name| name.starts_with(prefix)) {
        if let Err(error) = run(&format!("ip netns delete {name}")) {
            eprintln!("warning: {error:#}");
        }
    }
}

/// The machine's named namespaces; none where there is no iproute2, as then none of ours can exist.
fn namespaces() -> Vec<String> {
    let list = run("ip netns list").unwrap_or_default();
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn text_of(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
