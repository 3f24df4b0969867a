//! AF_PACKET by libpcap, where AF_XDP cannot be had: a BPF filter takes away what is surely not needed, the sieve
//! does the rest here.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use pcap::{Active, Capture, Packet, Precision};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use spantape_core::time::{MILLISECOND, SECOND, Timestamp};
use spantape_core::wire::{self, LinkType};
use spantape_sieve::{Endpoint, Ports, Wish, sieve};

use super::clock::Clock;
use super::memory::{Notebook, Sieving};
use super::tap::{Batch, Count, Counts, Steer, Tap, TapError};
use super::xdp::Frames;

/// How it is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Bytes of the kernel's ring.
    pub(crate) ring: i32,
    pub(crate) promiscuous: bool,
}

/// An interface that is listened to.
pub(crate) struct Listener<C = Capture<Active>> {
    interface: String,
    capture: C,
    link: LinkType,
    notebook: Notebook,
    counts: Arc<[AtomicU64]>,
    wishes: Receiver<(Endpoint, Option<Wish>)>,
    clock: Clock,
    /// Time that has been told: a wall clock that is set between a frame's stamp and its reading moves no frame out
    /// of what is left.
    told: Timestamp,
    /// The kernel's count of lost frames, which begins anew after 2^32, and ours.
    dropped: u32,
    lost: u64,
}

/// What hands frames over, one by one.
pub(crate) trait Next {
    /// [`pcap::Error::TimeoutExpired`] when there are no more for now.
    fn next(&mut self) -> Result<Packet<'_>, pcap::Error>;
}

impl Next for Capture<Active> {
    fn next(&mut self) -> Result<Packet<'_>, pcap::Error> {
        self.next_packet()
    }
}

/// Tells the sieve which media is wanted.
pub(crate) struct Wishes {
    wishes: Sender<(Endpoint, Option<Wish>)>,
}

/// Frames by class.
pub(crate) struct Classes {
    counts: Arc<[AtomicU64]>,
}

/// Why frames cannot be had by AF_PACKET.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PacketError {
    #[error("{0}")]
    Privileges(String),
    #[error("cannot listen to {interface}: {reason}")]
    Open { interface: String, reason: String },
    #[error("the frames of {interface} have link type {number}, which is not supported")]
    LinkType { interface: String, number: i32 },
}

/// Frames longer than this are cut: that of segments which the kernel has put together.
const SNAP_LENGTH: i32 = 65_536 + 64;
/// The kernel hands a block of frames on after so many milliseconds.
const BLOCK_MS: i32 = 10;
/// How long to wait for the first frame.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 100 * MILLISECOND };
/// Frames that are looked at before what was found is handed on.
const MOST_LOOKED_AT: usize = 16_384;
/// What may still be on its way when nothing is there: a block that is not full.
const SLACK: i64 = 5 * BLOCK_MS as i64 * MILLISECOND;
/// Wishes that may wait for the sieve.
const WISHES: usize = 65_536;

impl Listener {
    /// Begins to listen.
    pub(crate) fn open(
        interface: &str,
        told: &Sieving,
        settings: &Settings,
    ) -> Result<(Listener, Wishes, Classes), PacketError> {
        let failed = |error: pcap::Error| PacketError::Open {
            interface: interface.to_owned(),
            reason: error.to_string(),
        };
        let capture = Capture::from_device(interface)
            .map_err(failed)?
            .promisc(settings.promiscuous)
            .snaplen(SNAP_LENGTH)
            .timeout(BLOCK_MS)
            .buffer_size(settings.ring)
            .precision(Precision::Nano);
        // With the ring that libpcap has, its own way of waiting knows no limit.
        let mut capture = capture.open().and_then(Capture::setnonblock).map_err(failed)?;
        let number = capture.get_datalink().0;
        let link = u32::try_from(number).ok().and_then(LinkType::from_number);
        let link = link.ok_or_else(|| PacketError::LinkType { interface: interface.to_owned(), number })?;
        if link == LinkType::Ethernet {
            capture.filter(&filter(told), true).map_err(failed)?;
        }
        let counts: Arc<[AtomicU64]> = (0..spantape_sieve::COUNTERS).map(|_| AtomicU64::new(0)).collect();
        let (sender, wishes) = bounded(WISHES);
        let classes = Classes { counts: Arc::clone(&counts) };
        let notebook = Notebook::new(told);
        let clock = Clock::new();
        let interface = interface.to_owned();
        let told = clock.now();
        let listener =
            Listener { interface, capture, link, notebook, counts, wishes, clock, told, dropped: 0, lost: 0 };
        Ok((listener, Wishes { wishes: sender }, classes))
    }
}

/// Switches promiscuous mode on for as long as the capture lives, however it ends. No frame comes up by it.
pub(crate) fn promiscuous(interface: &str) -> Result<Capture<Active>, String> {
    let capture = Capture::from_device(interface).map_err(|error| error.to_string())?;
    let capture = capture.promisc(true).snaplen(64).buffer_size(1 << 16).open();
    let mut capture = capture.map_err(|error| error.to_string())?;
    capture.filter("less 1", true).map_err(|error| error.to_string())?;
    Ok(capture)
}

impl<C: Next> Listener<C> {
    /// Takes what is there, and no more than a batch of it.
    fn take(&mut self, batch: &mut Batch) -> Result<(), String> {
        let correction = self.clock.correction();
        let before = self.clock.now();
        // However many frames come that are not needed, whoever waits for the time is told it, and a stop is heard.
        for _ in 0..MOST_LOOKED_AT {
            if batch.is_full() {
                break;
            }
            let packet = match self.capture.next() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired) => {
                    self.told = Timestamp(before.0 - SLACK).max(self.told);
                    batch.seen_until = Some(self.told);
                    break;
                }
                Err(error) => return Err(error.to_string()),
            };
            if self.link == LinkType::Ethernet {
                let class = sieve(packet.data, &mut self.notebook);
                if let Some(count) = self.counts.get(class as usize) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                if !class.is_needed() {
                    continue;
                }
            }
            let time = packet.header.ts;
            // With this precision, what is called microseconds are nanoseconds.
            let stamp = time.tv_sec.saturating_mul(SECOND).saturating_add(time.tv_usec);
            let at = Timestamp(stamp.saturating_add(correction));
            batch.push(at.min(self.clock.now()).max(self.told), packet.data);
        }
        Ok(())
    }
}

impl Tap for Listener {
    fn link(&self) -> LinkType {
        self.link
    }

    fn read(&mut self, batch: &mut Batch) -> Result<(), TapError> {
        for (endpoint, wish) in self.wishes.try_iter() {
            self.notebook.wish_for(endpoint, wish);
        }
        let mut fd = [PollFd::new(&self.capture, PollFlags::IN)];
        let taken = match poll(&mut fd, Some(&WAIT)) {
            // Also at what libpcap is about to find out.
            Ok(_) | Err(Errno::INTR) => self.take(batch),
            Err(error) => Err(io::Error::from(error).to_string()),
        };
        taken.map_err(|reason| TapError { interface: self.interface.clone(), reason })
    }

    fn lost(&mut self) -> u64 {
        if let Ok(stats) = self.capture.stats() {
            self.lost += u64::from(stats.dropped.wrapping_sub(self.dropped));
            self.dropped = stats.dropped;
        }
        self.lost
    }

    fn detach(&mut self) {}

    fn frames(&self) -> Option<Frames> {
        None
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.clock
    }
}

impl Steer for Wishes {
    fn steer(&mut self, endpoint: wire::Endpoint, wanted: Option<bool>) -> bool {
        let wish = wanted.map(|wanted| if wanted { Wish::Wanted } else { Wish::Unwanted });
        let sent = self.wishes.try_send((Endpoint::new(endpoint.address(), endpoint.port), wish));
        !matches!(sent, Err(TrySendError::Full(_)))
    }
}

impl Count for Classes {
    fn counts(&self) -> Counts {
        std::array::from_fn(|index| self.counts.get(index).map_or(0, |count| count.load(Ordering::Relaxed)))
    }

    fn is_readable(&self) -> bool {
        true
    }
}

/// What the sieve surely does not need, in libpcap's language. It knows neither connections nor announced media, so
/// all TCP passes, and all that looks like RTP or what goes with it: STUN and DTLS (told apart by RFC 7983, 7).
fn filter(told: &Sieving) -> String {
    let ports = |which: Ports| {
        let said = Ports::DEFAULT.iter().chain(&told.ports).filter(move |(_, said)| said.has(which));
        said.map(|(port, _)| format!("port {port}")).collect::<Vec<_>>().join(" or ")
    };
    let (sip, inside) = (ports(Ports::SIP), ports(Ports::ENCAPSULATED));
    let looks = |header: &str, payload: usize| {
        let byte = format!("{header}[{payload}]");
        let word = |behind: usize| format!("{header}[{}:4]", payload + behind);
        let others = [
            format!("{byte} & 0xc0 = 0x80"),
            format!("{byte} = 0x0d or {byte} = 0x0a"),
            format!("({byte} >= 20 and {byte} <= 63) or {} = 0x2112a442", word(4)),
        ];
        let sip = ["INVI", "ACK ", "BYE ", "CANC", "REGI", "PRAC", "UPDA", "INFO", "REFE", "SUBS", "MESS"];
        let sip = sip.iter().chain(&["PUBL", "SIP/", "OPTI", "NOTI"]).map(|method| {
            let method = method.bytes().fold(0u32, |word, byte| word << 8 | u32::from(byte & 0xdf));
            format!("{} & 0xdfdfdfdf = {method:#010x}", word(0))
        });
        others.into_iter().chain(sip).collect::<Vec<_>>().join(" or ")
    };
    format!(
        "(ip and (ip[6:2] & 0x3fff != 0 or \
           (udp and ({sip} or {inside} or {v4})) or \
           ip proto 6 or ip proto 4 or ip proto 41 or ip proto 47 or ip proto 50 or ip proto 51 or ip proto 115 or ip proto 132)) \
         or (ip6 and (ip6[6] != 17 or {sip} or {inside} or {v6})) \
         or ether[12:2] = 0x8100 or ether[12:2] = 0x88a8 or ether[12:2] = 0x9100 or ether[12:2] = 0x9200 \
         or ether[12:2] = 0x8847 or ether[12:2] = 0x8848 or ether[12:2] = 0x8864",
        v4 = looks("udp", 8),
        v6 = looks("ip6", 48),
    )
}

#[cfg(test)]
mod tests {
    use spantape_sieve::{Class, testing};

    use super::*;

    fn told() -> Sieving {
        Sieving {
            ports: vec![(5080, Ports::SIP)],
            paths: Vec::new(),
            unknown_media: true,
            media: 16,
            flows: 16,
        }
    }

    #[test]
    fn the_filter_takes_away_nothing_that_the_sieve_needs() {
        let told = told();
        let program = Capture::dead(pcap::Linktype(1)).unwrap().compile(&filter(&told), true).unwrap();
        let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        let (mut needed, mut kept) = (0, 0);
        for case in std::fs::read_dir(samples).unwrap() {
            let Ok(mut capture) = Capture::from_file(case.unwrap().path().join("input.pcap")) else {
                continue;
            };
            let mut notebook = Notebook::new(&told);
            while let Ok(packet) = capture.next_packet() {
                let class = sieve(packet.data, &mut notebook);
                let passes = program.filter(packet.data);
                assert!(passes || !class.is_needed(), "{class:?} {:02x?}", packet.data);
                needed += usize::from(class.is_needed());
                kept += usize::from(passes);
            }
        }
        assert!(needed > 1000 && kept >= needed, "{needed} {kept}");
    }

    /// A frame of everything, and each of them cut anywhere.
    #[test]
    fn the_filter_passes_every_kind_of_frame_that_is_needed() {
        let ports = vec![(testing::HTTP_PORT, Ports::HTTP), (testing::CONTROL_PORT, Ports::CONTROL)];
        let told = Sieving { ports, ..told() };
        let program = Capture::dead(pcap::Linktype(1)).unwrap().compile(&filter(&told), true).unwrap();
        let mut memory = testing::Tables::sample();
        let mut needed = 0;
        for case in testing::cases() {
            for length in (14..=case.frame.len()).rev() {
                let frame = &case.frame[..length];
                let class = sieve(frame, &mut memory);
                // Of media that looks like none the filter does not know that it was announced.
                let asked = class.is_needed() && class != Class::Media;
                assert!(!asked || program.filter(frame), "{} cut to {length}: {class:?}", case.name);
                needed += usize::from(asked);
            }
        }
        assert!(needed > 1000, "{needed}");
    }

    /// Bytes changed anywhere in the headers: what a filter reads is then seldom what it was made for.
    #[test]
    fn the_filter_passes_what_is_needed_of_damaged_frames() {
        let program = Capture::dead(pcap::Linktype(1)).unwrap().compile(&filter(&told()), true).unwrap();
        let mut notebook = Notebook::new(&told());
        let mut seed = 7u64;
        let mut chance = |limit: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % limit
        };
        let cases = testing::cases();
        for _ in 0..200_000 {
            let mut frame = cases[chance(cases.len())].frame.clone();
            for _ in 0..=chance(4) {
                let place = 12 + chance(frame.len().min(64) - 12);
                frame[place] = chance(256) as u8;
            }
            let class = sieve(&frame[..], &mut notebook);
            assert!(!class.is_needed() || program.filter(&frame), "{class:?} {frame:02x?}");
        }
    }

    #[test]
    fn the_filter_takes_away_what_is_surely_not_needed() {
        let program = Capture::dead(pcap::Linktype(1)).unwrap().compile(&filter(&told()), true).unwrap();
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert!(!program.filter(&arp));
        // A DNS question.
        let mut frame = [0; 60];
        frame[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 0x00]);
        (frame[17], frame[23]) = (40, 17);
        frame[34..38].copy_from_slice(&[0xc0, 0x00, 0x00, 0x35]);
        assert!(!program.filter(&frame));
    }

    /// An interface on which there is always one more frame of no use.
    struct Flood {
        header: pcap::PacketHeader,
        frame: Vec<u8>,
    }

    impl Next for Flood {
        fn next(&mut self) -> Result<Packet<'_>, pcap::Error> {
            Ok(Packet { header: &self.header, data: &self.frame })
        }
    }

    #[test]
    fn a_flood_of_what_is_not_needed_comes_to_an_end() {
        let case = testing::cases().into_iter().find(|case| case.class == Class::Rest).unwrap();
        let length = case.frame.len() as u32;
        let ts = libc::timeval { tv_sec: 0, tv_usec: 0 };
        let header = pcap::PacketHeader { ts, caplen: length, len: length };
        let (_, wishes) = bounded(0);
        let clock = Clock::new();
        let mut listener = Listener {
            interface: String::new(),
            capture: Flood { header, frame: case.frame },
            link: LinkType::Ethernet,
            notebook: Notebook::new(&told()),
            counts: (0..spantape_sieve::COUNTERS).map(|_| AtomicU64::new(0)).collect(),
            wishes,
            told: clock.now(),
            clock,
            dropped: 0,
            lost: 0,
        };
        let mut batch = Batch::new(LinkType::Ethernet, None);
        listener.take(&mut batch).unwrap();
        assert!(batch.is_empty());
        let rest = listener.counts[Class::Rest as usize].load(Ordering::Relaxed);
        assert_eq!(rest, MOST_LOOKED_AT as u64);
    }

    #[test]
    fn classes_have_names_in_the_order_of_the_counters() {
        assert!(Class::ALL.iter().enumerate().all(|(index, class)| *class as usize == index));
    }
}
