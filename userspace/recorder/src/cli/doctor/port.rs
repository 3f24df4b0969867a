//! What can be said of an interface that is to be recorded from.

use xdp::nic::NicIndex;

use super::Line;
use crate::source::driver::{Driver, Offload, OffloadKind, Ring};
use crate::source::interface::{Interface, InterfaceError};

/// What is known of one interface.
pub(super) struct Port {
    interface: Interface,
    /// Somebody has named it.
    asked: bool,
    /// `None` before Linux 6.3.
    xdp: Option<Xdp>,
    /// `None` where there is none, or the driver does not tell.
    ring: Option<Ring>,
    /// `None` where the driver does not tell.
    offloads: Option<Vec<Offload>>,
}

/// What a driver does for XDP.
#[derive(Clone, Copy)]
struct Xdp {
    /// It runs programs, and can hand frames to AF_XDP sockets.
    native: bool,
    /// The card writes frames where the recorder reads them.
    zero_copy: bool,
}

impl Port {
    /// Within a tokio runtime with I/O.
    pub(super) async fn look(interface: Interface, asked: bool) -> Port {
        let (mut ring, mut offloads) = (None, None);
        if let Ok(driver) = Driver::open() {
            ring = driver.rx_ring(&interface.name).await;
            offloads = driver.offloads(&interface.name).await;
        }
        let xdp = NicIndex::new(interface.index).query_capabilities().ok().map(|found| Xdp {
            native: found.xdp_features.basic() && found.xdp_features.redirect(),
            zero_copy: found.xdp_features.zero_copy(),
        });
        Port { interface, asked, xdp, ring, offloads }
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = vec![self.link()];
        // One that is off and that nobody has asked for is not in use.
        if self.asked || self.interface.up {
            lines.extend([self.driver(), self.mtu(), self.program(), self.xdp(), self.queues()]);
            lines.extend(self.ring());
            lines.extend(self.offloads());
            lines.extend([self.addresses(), self.promiscuous()]);
        }
        lines.into_iter().map(|line| line.of(&self.interface.name)).collect()
    }

    fn link(&self) -> Line {
        const CHECK: &str = "link";
        let up = || format!("sudo ip link set dev {} up", self.interface.name);
        match (self.interface.up, self.interface.running) {
            (true, true) => Line::ok(CHECK, "up and running"),
            (true, false) => Line::warn(
                CHECK,
                "switched on, but nothing is at its other end",
                "plug in the cable from the switch's mirror port, and switch that port on",
            ),
            (false, _) if self.asked => Line::fail(CHECK, "switched off", up()),
            (false, _) => Line::warn(CHECK, "switched off; nothing more was checked", up()),
        }
    }

    fn driver(&self) -> Line {
        Line::ok("driver", self.interface.driver.as_deref().unwrap_or("not told"))
    }

    fn mtu(&self) -> Line {
        let mtu = self.interface.mtu;
        if mtu <= MTU {
            return Line::ok("MTU", mtu.to_string());
        }
        Line::warn(
            "MTU",
            format!("{mtu}: an XDP program takes frames of one buffer, about {MTU} bytes"),
            format!("sudo ip link set dev {} mtu 1500", self.interface.name),
        )
    }

    fn program(&self) -> Line {
        const CHECK: &str = "XDP program";
        let Some(attached) = &self.interface.xdp else { return Line::ok(CHECK, "none attached") };
        let (number, mode) = (attached.program, attached.mode.as_str());
        let look = format!("ip link show dev {}; bpftool net show", self.interface.name);
        match &attached.name {
            Some(_) if attached.is_ours() && attached.held => Line::warn(
                CHECK,
                format!("a spantape is recording here (program {number}, {mode})"),
                "stop that one before another is started here",
            ),
            Some(_) if attached.is_ours() => Line::ok(
                CHECK,
                format!("program {number} ({mode}) was left by a spantape; the next one takes it off"),
            ),
            Some(name) => Line::fail(
                CHECK,
                format!("`{name}` (program {number}, {mode}) takes the frames first"),
                format!("see whose it is, and stop that: {look}"),
            ),
            None => Line::warn(
                CHECK,
                format!("program {number} ({mode}); it takes CAP_SYS_ADMIN to see whose"),
                format!("see whose it is: sudo spantape doctor, or {look}"),
            ),
        }
    }

    fn xdp(&self) -> Line {
        const CHECK: &str = "XDP support";
        match self.xdp {
            Some(Xdp { native: true, zero_copy: true }) => Line::ok(CHECK, "native, without a copy"),
            Some(Xdp { native: true, zero_copy: false }) => Line::ok(CHECK, "native, with one copy"),
            Some(Xdp { native: false, .. }) => Line::warn(
                CHECK,
                "not in the driver: the kernel runs the program later, which is slower",
                "if frames are lost: a card whose driver has it (such as ice, i40e, igc, mlx5)",
            ),
            None => Line::ok(CHECK, "not told (kernels from 6.3 on do)"),
        }
    }

    fn queues(&self) -> Line {
        let name = &self.interface.name;
        match self.interface.queues {
            0 | 1 => Line::ok("queues", "one"),
            queues => Line::ok(
                "queues",
                format!("{queues}: one AF_XDP socket each; fewer by sudo ethtool -L {name} combined 1"),
            ),
        }
    }

    fn ring(&self) -> Option<Line> {
        let Ring { now, max } = self.ring?;
        Some(if now < max {
            Line::warn(
                "ring",
                format!("{now} frames of {max}: less room for bursts than the card has"),
                format!("sudo ethtool -G {} rx {max}", self.interface.name),
            )
        } else {
            Line::ok("ring", format!("{now} frames, as many as the card has room for"))
        })
    }

    fn offloads(&self) -> Vec<Line> {
        const CHECK: &str = "offloads";
        let Some(offloads) = &self.offloads else { return vec![Line::ok(CHECK, "not told")] };
        if offloads.is_empty() {
            return vec![Line::ok(CHECK, "none that changes frames")];
        }
        let line = |offload: &Offload| {
            let name = offload.kind.as_str();
            let found = format!("{name} is on: {}", effect(offload.kind));
            let remedy = if offload.fixed {
                "the driver does not let it be switched off; use another card if frames are spoilt".to_owned()
            } else {
                format!("sudo ethtool -K {} {name} off", self.interface.name)
            };
            Line::warn(CHECK, found, remedy)
        };
        offloads.iter().map(line).collect()
    }

    fn addresses(&self) -> Line {
        const CHECK: &str = "addresses";
        let interface = &self.interface;
        if interface.addresses.is_empty() {
            return Line::ok(CHECK, "none, as is right for a mirror port");
        }
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        Line::warn(
            CHECK,
            format!("{}: a mirror port should have none", addresses.join(", ")),
            format!("if nobody needs them: sudo ip address flush dev {}", interface.name),
        )
    }

    fn promiscuous(&self) -> Line {
        let found = match self.interface.promiscuous {
            true => "on: frames for others are let in",
            false => "off, as it is while nobody captures",
        };
        Line::ok("promiscuous", found)
    }
}

/// Why nothing can be said of it.
pub(super) fn unknown(error: InterfaceError) -> Line {
    let remedy = match error {
        InterfaceError::NoSuchInterface { .. } => "name one of these",
        InterfaceError::Failed { .. } => "see that the process may use netlink (a sandbox may forbid it)",
    };
    Line::fail(CHECK, format!("{:#}", anyhow::Error::from(error)), remedy)
}

pub(super) fn none() -> Line {
    Line::fail(CHECK, "there is none but the loopback", "give this machine, or its container, a network card")
}

const CHECK: &str = "interface";
/// What is left of a page when the kernel has taken its part; some drivers take a little more.
const MTU: u32 = 3500;

fn effect(kind: OffloadKind) -> &'static str {
    match kind {
        OffloadKind::Gro | OffloadKind::GroHardware | OffloadKind::Lro => {
            "TCP segments arrive joined, larger than they were on the wire"
        }
        OffloadKind::GroList | OffloadKind::GroUdp => "UDP datagrams of a stream arrive joined",
        OffloadKind::Vlan => "frames arrive without their VLAN tag",
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::source::interface::{Attached, AttachedMode, PROGRAM};

    fn port() -> Port {
        let interface = Interface {
            name: "eth1".to_owned(),
            index: 2,
            up: true,
            running: true,
            loopback: false,
            ethernet: true,
            promiscuous: false,
            mtu: 1500,
            addresses: Vec::new(),
            driver: Some("ice".to_owned()),
            queues: 1,
            xdp: None,
        };
        let xdp = Some(Xdp { native: true, zero_copy: true });
        Port {
            interface,
            asked: true,
            xdp,
            ring: Some(Ring { now: 4096, max: 4096 }),
            offloads: Some(vec![]),
        }
    }

    fn of(change: impl FnOnce(&mut Port)) -> Port {
        let mut port = port();
        change(&mut port);
        port
    }

    fn check(line: Line, state: State, parts: &[&str]) {
        assert_eq!((line.state, line.remedy.is_none()), (state, state == State::Ok), "{line:?}");
        let text = format!("{} -> {}", line.found, line.remedy.unwrap_or_default());
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }

    #[test]
    fn a_good_one() {
        let lines = port().lines();
        assert!(lines.iter().all(|line| line.state == State::Ok), "{lines:?}");
        assert!(lines.iter().all(|line| line.interface.as_deref() == Some("eth1")), "{lines:?}");
    }

    #[test]
    fn links() {
        let unplugged = of(|port| port.interface.running = false);
        check(unplugged.link(), State::Warn, &["cable"]);
        let off = |asked| {
            of(|port| (port.interface.up, port.interface.running, port.asked) = (false, false, asked))
        };
        check(off(true).link(), State::Fail, &["ip link set dev eth1 up"]);
        check(off(false).link(), State::Warn, &["ip link set dev eth1 up"]);
        assert_eq!(off(false).lines().len(), 1);
    }

    #[test]
    fn mtus() {
        check(of(|port| port.interface.mtu = MTU).mtu(), State::Ok, &["3500"]);
        check(
            of(|port| port.interface.mtu = 9000).mtu(),
            State::Warn,
            &["9000", "ip link set dev eth1 mtu 1500"],
        );
    }

    #[test]
    fn programs() {
        let with = |name: Option<&str>, held| {
            let name = name.map(str::to_owned);
            let attached = Attached { program: 7, mode: AttachedMode::Native, name, held };
            of(|port| port.interface.xdp = Some(attached)).program()
        };
        check(with(Some(PROGRAM), true), State::Warn, &["is recording here", "7", "native"]);
        check(with(Some(PROGRAM), false), State::Ok, &["left by"]);
        check(
            with(Some("xdp_pass"), true),
            State::Fail,
            &["`xdp_pass`", "ip link show dev eth1", "bpftool net show"],
        );
        check(with(None, true), State::Warn, &["CAP_SYS_ADMIN", "ip link show dev eth1"]);
    }

    #[test]
    fn support_of_xdp() {
        let with = |xdp: Option<(bool, bool)>| {
            of(|port| port.xdp = xdp.map(|(native, zero_copy)| Xdp { native, zero_copy })).xdp()
        };
        check(with(Some((true, true))), State::Ok, &["native, without a copy"]);
        check(with(Some((true, false))), State::Ok, &["native, with one copy"]);
        check(with(Some((false, false))), State::Warn, &["slower"]);
        check(with(None), State::Ok, &["not told"]);
    }

    #[test]
    fn queues_and_rings() {
        check(of(|port| port.interface.queues = 8).queues(), State::Ok, &["8", "ethtool -L eth1 combined 1"]);
        let small = of(|port| port.ring = Some(Ring { now: 512, max: 4096 }));
        check(small.ring().unwrap(), State::Warn, &["512", "ethtool -G eth1 rx 4096"]);
        assert!(of(|port| port.ring = None).ring().is_none());
    }

    #[test]
    fn offloads() {
        let with = |offloads| of(|port| port.offloads = offloads).offloads();
        let on = |kind, fixed| Offload { kind, fixed };
        let mut lines = with(Some(vec![on(OffloadKind::Gro, false), on(OffloadKind::Lro, true)]));
        check(lines.remove(0), State::Warn, &["ethtool -K eth1 rx-gro off"]);
        check(lines.remove(0), State::Warn, &["rx-lro is on", "does not let"]);
        check(with(None).remove(0), State::Ok, &["not told"]);
    }

    #[test]
    fn addresses() {
        let addresses = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let port = of(|port| port.interface.addresses = addresses);
        check(port.addresses(), State::Warn, &["192.0.2.7, 2001:db8::7", "ip address flush dev eth1"]);
    }

    #[test]
    fn interfaces_that_are_not_there() {
        let there = vec!["lo".to_owned(), "eth0".to_owned()];
        let error = InterfaceError::NoSuchInterface { name: "nosuch0".to_owned(), there };
        check(unknown(error), State::Fail, &["nosuch0", "lo, eth0"]);
        check(none(), State::Fail, &["loopback"]);
    }
}
