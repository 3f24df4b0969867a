//! What is known of a network interface, and word of when its link goes and comes back, by rtnetlink.

use std::future::pending;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::{Pin, pin};
use std::time::Duration;

use aya::programs::links::LinkError;
use aya::programs::{loaded_links, loaded_programs};
use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, Prop, XdpAttached,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, MulticastGroup};
use rustix::io::Errno;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use xdp::nic::NicIndex;

use super::driver::Driver;

/// What spantape's XDP program is called in the kernel.
pub(crate) const PROGRAM: &str = "spantape";

/// A network interface as it is now.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// As the kernel has it; it may have been asked for by another of its names.
    pub(crate) name: String,
    pub(crate) index: u32,
    /// Somebody has switched it on.
    pub(crate) up: bool,
    /// It can carry frames: for a cable, that something is at its other end.
    pub(crate) running: bool,
    pub(crate) loopback: bool,
    /// Its frames have Ethernet headers.
    pub(crate) ethernet: bool,
    /// Somebody listens to frames that are for others.
    pub(crate) promiscuous: bool,
    pub(crate) mtu: u32,
    /// Without link-local IPv6, which every interface has.
    pub(crate) addresses: Vec<IpAddr>,
    /// The driver, or the kind of an interface without hardware.
    pub(crate) driver: Option<String>,
    /// RX queues in use; at least one.
    pub(crate) queues: u32,
    pub(crate) xdp: Option<Attached>,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The kernel's number for it.
    pub(crate) program: u32,
    pub(crate) mode: AttachedMode,
    /// `None` if the kernel does not tell: it takes CAP_SYS_ADMIN to ask.
    pub(crate) name: Option<String>,
    /// A `bpf_link` holds it: its owner lives, or has pinned it. Also when the kernel does not tell, so that
    /// nobody takes away what may be in use.
    pub(crate) held: bool,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachedMode {
    /// In the driver.
    Native,
    /// After the driver, for any interface.
    Generic,
    /// On the card.
    Offloaded,
}

/// Why nothing is known of an interface, or nothing can be done with it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InterfaceError {
    #[error("there is no interface `{name}`; there are: {}", .there.join(", "))]
    NoSuchInterface { name: String, there: Vec<String> },
    #[error("cannot {operation}")]
    Failed { operation: String, source: io::Error },
}

/// Tells when an interface's link changes.
pub(crate) struct LinkWatch {
    index: u32,
    route: Route,
    messages: Messages,
    /// What the caller knows.
    told: LinkEvent,
    /// When to ask how things are, whatever was heard.
    ask: Instant,
}

/// What became of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    /// It is switched on and can carry frames.
    Up,
    Down,
    /// The interface does not exist any more, or lives in another network namespace. Nothing follows.
    Gone,
}

impl Interface {
    /// Within a tokio runtime with I/O and time.
    pub(crate) async fn look(name: &str) -> Result<Interface, InterfaceError> {
        let route = Route::open()?;
        let link = match route.link(LinkUnspec::new_with_name(name).build()).await {
            Err(error) if unknown_name(&error) => route.link_of_other_name(name).await?,
            link => link.map_err(failed(|| format!("ask for the interface {name}")))?,
        };
        let mut interface = Interface::of(&link).unwrap_or_else(|| Interface::nameless(name, &link));
        interface.addresses = route.addresses(interface.index).await?;
        interface.queues = queues(&interface).await;
        Ok(interface)
    }

    /// The names of all interfaces.
    pub(crate) async fn names() -> Result<Vec<String>, InterfaceError> {
        let links = Route::open()?.links().await.map_err(failed(|| "list the interfaces".to_owned()))?;
        Ok(links.iter().filter_map(name_of).map(str::to_owned).collect())
    }

    /// Take the XDP program off that [`Self::look`] saw. One that a `bpf_link` holds stays, and that is an error.
    pub(crate) async fn detach_xdp(&self) -> Result<(), InterfaceError> {
        let Some(attached) = &self.xdp else { return Ok(()) };
        let nobody = vec![LinkXdp::Fd(-1), LinkXdp::Flags(attached.mode.flag())];
        let message =
            LinkUnspec::new_with_index(self.index).append_extra_attribute(LinkAttribute::Xdp(nobody)).build();
        let done = Route::open()?.handle.link().set(message).execute().await;
        done.map_err(as_io)
            .map_err(failed(|| format!("take the XDP program {} off {}", attached.program, self.name)))
    }

    /// What the message tells; `None` if that is not even a name.
    fn of(link: &LinkMessage) -> Option<Interface> {
        Some(Interface::nameless(name_of(link)?, link))
    }

    fn nameless(name: &str, link: &LinkMessage) -> Interface {
        let flags = link.header.flags;
        let mut interface = Interface {
            name: name.to_owned(),
            index: link.header.index,
            up: flags.contains(LinkFlags::Up),
            running: flags.contains(LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            ethernet: matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
            promiscuous: flags.contains(LinkFlags::Promisc),
            mtu: 0,
            addresses: Vec::new(),
            driver: None,
            queues: 1,
            xdp: None,
        };
        let (mut bus, mut device, mut kind) = (None, None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
                LinkAttribute::Promiscuity(listeners) => interface.promiscuous |= *listeners > 0,
                LinkAttribute::NumRxQueues(queues) => interface.queues = (*queues).max(1),
                LinkAttribute::ParentDevBusName(name) => bus = Some(name.as_str()),
                LinkAttribute::ParentDevName(name) => device = Some(name.as_str()),
                LinkAttribute::LinkInfo(infos) => {
                    kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                LinkAttribute::Xdp(xdp) => {
                    interface.xdp = attached(xdp).map(|(program, mode)| Attached {
                        program,
                        mode,
                        name: program_name(program),
                        held: held(program),
                    });
                }
                _ => {}
            }
        }
        let of_device = bus
            .zip(device)
            .and_then(|(bus, device)| driver(&Path::new("/sys/bus").join(bus).join("devices").join(device)));
        let by_name = || driver(&Path::new("/sys/class/net").join(&interface.name).join("device"));
        interface.driver = of_device.or(kind).or_else(by_name);
        interface
    }
}

impl Attached {
    /// Another spantape has put it there, or left it there.
    pub(crate) fn is_ours(&self) -> bool {
        self.name.as_deref() == Some(PROGRAM)
    }
}

impl AttachedMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            AttachedMode::Native => "native",
            AttachedMode::Generic => "generic",
            AttachedMode::Offloaded => "offloaded",
        }
    }

    /// `XDP_FLAGS_*_MODE`.
    fn flag(self) -> u32 {
        match self {
            AttachedMode::Generic => 1 << 1,
            AttachedMode::Native => 1 << 2,
            AttachedMode::Offloaded => 1 << 3,
        }
    }
}

impl LinkWatch {
    /// From now on. Within a tokio runtime with I/O and time.
    ///
    /// The caller is taken to think that the link is up: if it is not, the first event says so.
    pub(crate) fn new(index: u32) -> Result<LinkWatch, InterfaceError> {
        let (route, messages) = Route::listen()?;
        Ok(LinkWatch { index, route, messages, told: LinkEvent::Up, ask: Instant::now() })
    }

    /// The next change. It may be dropped before it is ready: nothing is lost.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        loop {
            let heard = if self.told == LinkEvent::Gone {
                pending().await
            } else if Instant::now() >= self.ask {
                let answer = self.route.link(LinkUnspec::new_with_index(self.index).build()).await;
                self.ask = Instant::now() + ASK_AGAIN;
                match answer {
                    Ok(link) => Some(state(&link)),
                    Err(error) if Errno::from_io_error(&error) == Some(Errno::NODEV) => Some(LinkEvent::Gone),
                    Err(_) => None,
                }
            } else {
                match timeout_at(self.ask, self.messages.next()).await {
                    Ok(Some(message)) => self.hear(&message),
                    Ok(None) => self.reopen().await,
                    Err(_) => None,
                }
            };
            if let Some(event) = heard.filter(|event| *event != self.told) {
                self.told = event;
                return event;
            }
        }
    }

    /// Frames for which the interface itself had no room, as far as it tells.
    pub(crate) async fn missed(&self) -> Option<u64> {
        let ask = self.route.link(LinkUnspec::new_with_index(self.index).build());
        // An answer that finds no room is lost, and would be waited for in vain.
        let link = timeout(PATIENCE, ask).await.ok()?.ok()?;
        link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.rx_missed_errors + stats.rx_fifo_errors),
            _ => None,
        })
    }

    /// What a message says of the link, if it is about it.
    fn hear(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<LinkEvent> {
        let (link, event): (_, fn(&LinkMessage) -> LinkEvent) = match &message.payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => (link, state),
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => (link, |_| LinkEvent::Gone),
            NetlinkPayload::Overrun(_) => {
                // So much happened that some of it was not heard.
                self.ask = Instant::now();
                return None;
            }
            _ => return None,
        };
        // A port that leaves its bridge is a deleted link as well, of the bridge's family.
        let about = link.header.index == self.index && link.header.interface_family == AddressFamily::Unspec;
        about.then(|| event(link))
    }

    async fn reopen(&mut self) -> Option<LinkEvent> {
        match Route::listen() {
            Ok((route, messages)) => {
                (self.route, self.messages, self.ask) = (route, messages, Instant::now())
            }
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
        None
    }
}

type Messages = Pin<Box<dyn Stream<Item = NetlinkMessage<RouteNetlinkMessage>> + Send>>;

/// The kernel answers at once, or not at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// However quiet it is: a message that could not be decoded is not heard of.
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// A connection to the kernel's rtnetlink.
struct Route {
    handle: Handle,
    task: AbortHandle,
}

impl Route {
    fn open() -> Result<Route, InterfaceError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed(open_netlink))?;
        Ok(Route { handle, task: tokio::spawn(connection).abort_handle() })
    }

    /// One that also hears of changes of links.
    fn listen() -> Result<(Route, Messages), InterfaceError> {
        let (connection, handle, messages) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(failed(open_netlink))?;
        let route = Route { handle, task: tokio::spawn(connection).abort_handle() };
        Ok((route, Box::pin(messages.map(|(message, _)| message))))
    }

    /// The link that the message names by index or name.
    async fn link(&self, of: LinkMessage) -> io::Result<LinkMessage> {
        let mut request = self.handle.link().get().match_index(of.header.index);
        *request.message_mut() = of;
        let mut links = pin!(request.execute());
        links.try_next().await.map_err(as_io)?.ok_or_else(not_understood)
    }

    async fn links(&self) -> io::Result<Vec<LinkMessage>> {
        self.handle.link().get().execute().try_collect().await.map_err(as_io)
    }

    /// The link that has it as an alternative name.
    async fn link_of_other_name(&self, name: &str) -> Result<LinkMessage, InterfaceError> {
        let links = self.links().await.map_err(failed(|| "list the interfaces".to_owned()))?;
        let there = links.iter().filter_map(name_of).map(str::to_owned).collect();
        let found = links.into_iter().find(|link| {
            link.attributes.iter().any(|attribute| match attribute {
                LinkAttribute::PropList(list) => {
                    list.iter().any(|prop| matches!(prop, Prop::AltIfName(other) if other == name))
                }
                _ => false,
            })
        });
        found.ok_or_else(|| InterfaceError::NoSuchInterface { name: name.to_owned(), there })
    }

    async fn addresses(&self, index: u32) -> Result<Vec<IpAddr>, InterfaceError> {
        let request = self.handle.address().get().set_link_index_filter(index);
        let messages: Result<Vec<_>, _> = request.execute().try_collect().await;
        let messages = messages.map_err(as_io).map_err(failed(|| "list the addresses".to_owned()))?;
        let addresses = messages.iter().filter_map(|message| {
            // Where the two differ, the other one is the peer's.
            let own = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(address) => Some(*address),
                _ => None,
            });
            own.or_else(|| {
                message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Address(address) => Some(*address),
                    _ => None,
                })
            })
        });
        let link_local = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        Ok(addresses.filter(|address| !link_local(address)).collect())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn name_of(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

fn state(link: &LinkMessage) -> LinkEvent {
    let both = LinkFlags::Up | LinkFlags::Running;
    if link.header.flags.contains(both) { LinkEvent::Up } else { LinkEvent::Down }
}

/// Where the driver tells: sysfs may be that of another network namespace.
async fn queues(interface: &Interface) -> u32 {
    if let Ok(driver) = Driver::open()
        && let Ok(queues @ 1..) = driver.rx_queues(&interface.name).await
    {
        return queues;
    }
    match NicIndex::new(interface.index).queues_from_fs() {
        Ok(queues) if queues.rx_count() > 0 => queues.rx_count(),
        _ => interface.queues,
    }
}

/// The driver of a device in sysfs.
fn driver(device: &Path) -> Option<String> {
    let driver = std::fs::read_link(device.join("driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

/// The program that frames meet first.
fn attached(xdp: &[LinkXdp]) -> Option<(u32, AttachedMode)> {
    use AttachedMode::{Generic, Native, Offloaded};
    let find = |matches: fn(&LinkXdp) -> Option<u32>| xdp.iter().find_map(matches).filter(|id| *id != 0);
    let offloaded = find(|xdp| if let LinkXdp::HwProgId(id) = xdp { Some(*id) } else { None });
    let native = find(|xdp| if let LinkXdp::DrvProgId(id) = xdp { Some(*id) } else { None });
    let generic = find(|xdp| if let LinkXdp::SkbProgId(id) = xdp { Some(*id) } else { None });
    let each = [(offloaded, Offloaded), (native, Native), (generic, Generic)];
    if let Some(found) = each.into_iter().find_map(|(id, mode)| Some((id?, mode))) {
        return Some(found);
    }
    let mode = xdp.iter().find_map(|xdp| match xdp {
        LinkXdp::Attached(XdpAttached::Driver) => Some(Native),
        LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(Generic),
        LinkXdp::Attached(XdpAttached::Hardware) => Some(Offloaded),
        _ => None,
    })?;
    Some((find(|xdp| if let LinkXdp::ProgId(id) = xdp { Some(*id) } else { None })?, mode))
}

fn program_name(program: u32) -> Option<String> {
    // One that cannot be asked for may have gone in this moment.
    let found = loaded_programs().filter_map(Result::ok).find(|info| info.id() == program)?;
    Some(String::from_utf8_lossy(found.name()).into_owned())
}

fn held(program: u32) -> bool {
    let mut told = true;
    for link in loaded_links() {
        match link {
            Ok(link) if link.program_id() == program => return true,
            Ok(_) => {}
            // It has gone in this moment.
            Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => told = false,
        }
    }
    !told
}

/// No interface has the name, or none can have it.
fn unknown_name(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NODEV | Errno::RANGE | Errno::INVAL))
}

fn open_netlink() -> String {
    "ask the kernel by netlink".to_owned()
}

fn failed(operation: impl FnOnce() -> String) -> impl FnOnce(io::Error) -> InterfaceError {
    move |source| InterfaceError::Failed { operation: operation(), source }
}

fn as_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(error) => error.to_io(),
        error => io::Error::other(error),
    }
}

fn not_understood() -> io::Error {
    io::Error::other("the kernel's answer is not understood")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn message(
        of: fn(LinkMessage) -> RouteNetlinkMessage,
        link: LinkMessage,
    ) -> NetlinkMessage<RouteNetlinkMessage> {
        NetlinkMessage::from(of(link))
    }

    #[test]
    fn the_loopback() {
        let lo = runtime().block_on(Interface::look("lo")).unwrap();
        assert!(lo.loopback && lo.index > 0 && lo.queues > 0 && lo.mtu > 0 && lo.name == "lo", "{lo:?}");
        assert!(lo.addresses.iter().all(IpAddr::is_loopback), "{lo:?}");
    }

    #[test]
    fn names_that_no_interface_has() {
        for name in
            ["", "nosuch0", "a-name-that-is-longer-than-an-interface-may-have", "../lo", "lo\u{e4}", "%d"]
        {
            let error = runtime().block_on(Interface::look(name)).unwrap_err();
            assert!(matches!(&error, InterfaceError::NoSuchInterface { .. }), "{name}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("there are: ") && text.contains("lo"), "{text}");
        }
    }

    #[test]
    fn nothing_to_take_off() {
        let mut lo = runtime().block_on(Interface::look("lo")).unwrap();
        lo.xdp = None;
        runtime().block_on(lo.detach_xdp()).unwrap();
    }

    #[test]
    fn which_program_is_attached() {
        use AttachedMode::{Generic, Native, Offloaded};
        let mode = |attached| LinkXdp::Attached(attached);
        assert_eq!(attached(&[]), None);
        assert_eq!(attached(&[mode(XdpAttached::None)]), None);
        assert_eq!(attached(&[mode(XdpAttached::Driver), LinkXdp::ProgId(0)]), None);
        assert_eq!(attached(&[LinkXdp::ProgId(7), mode(XdpAttached::Driver)]), Some((7, Native)));
        let both = [mode(XdpAttached::SocketBuffer), LinkXdp::ProgId(7), LinkXdp::SkbProgId(7)];
        assert_eq!(attached(&both), Some((7, Generic)));
        let several = [mode(XdpAttached::Multiple), LinkXdp::SkbProgId(8), LinkXdp::DrvProgId(7)];
        assert_eq!(attached(&several), Some((7, Native)));
        assert_eq!(attached(&[mode(XdpAttached::Multiple), LinkXdp::HwProgId(9)]), Some((9, Offloaded)));
        assert_eq!(attached(&[mode(XdpAttached::Other(77)), LinkXdp::ProgId(7)]), None);
    }

    #[test]
    fn only_changes_of_the_link_itself_are_heard() {
        runtime().block_on(async {
            let mut watch = LinkWatch::new(7).unwrap();
            let link = |index, flags, family| {
                let mut link = LinkMessage::default();
                (link.header.index, link.header.flags) = (index, flags);
                link.header.interface_family = family;
                link
            };
            let (new, del) = (RouteNetlinkMessage::NewLink, RouteNetlinkMessage::DelLink);
            let any = AddressFamily::Unspec;
            let both = LinkFlags::Up | LinkFlags::Running;
            assert_eq!(watch.hear(&message(new, link(7, both, any))), Some(LinkEvent::Up));
            assert_eq!(watch.hear(&message(new, link(7, LinkFlags::Up, any))), Some(LinkEvent::Down));
            assert_eq!(watch.hear(&message(new, link(7, LinkFlags::empty(), any))), Some(LinkEvent::Down));
            assert_eq!(watch.hear(&message(new, link(8, both, any))), None);
            assert_eq!(watch.hear(&message(del, link(8, both, any))), None);
            assert_eq!(watch.hear(&message(del, link(7, both, AddressFamily::Bridge))), None);
            assert_eq!(watch.hear(&message(del, link(7, both, any))), Some(LinkEvent::Gone));
        });
    }

    #[test]
    fn a_link_that_is_not_there_is_gone_once() {
        runtime().block_on(async {
            let mut watch = LinkWatch::new(0x7fff_fff0).unwrap();
            assert_eq!(watch.next().await, LinkEvent::Gone);
            assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
        });
    }
}
