//! What the sieve is told, and its memory where it does not run in the kernel.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use spantape_sieve::{Class, Endpoint, Flow, Memory, PATH, Path, Ports, Wish};

/// What the sieve is told before it begins.
#[derive(Clone, Debug)]
pub(crate) struct Sieving {
    /// What is said of ports, beside what is said of them by default.
    pub(crate) ports: Vec<(u16, Ports)>,
    /// Beginnings of HTTP paths that are record triggers.
    pub(crate) paths: Vec<String>,
    /// RTP that nobody has announced is needed as well.
    pub(crate) unknown_media: bool,
    /// Media endpoints that can be announced at a time.
    pub(crate) media: u32,
    /// TCP connections that are remembered; those known longest are forgotten first.
    pub(crate) flows: u32,
}

impl Sieving {
    /// What is said of each port.
    pub(crate) fn port_table(&self) -> Box<[u8; PORTS]> {
        let mut table = Box::new([0; PORTS]);
        for (port, said) in Ports::DEFAULT.iter().chain(&self.ports) {
            table[usize::from(*port)] |= said.0;
        }
        table
    }

    /// The beginnings of paths and how many bits of each are compared.
    pub(crate) fn prefixes(&self) -> impl Iterator<Item = (Path, u32)> {
        self.paths.iter().map(|path| {
            let mut prefix = [0; PATH];
            let length = path.len().min(PATH);
            prefix[..length].copy_from_slice(&path.as_bytes()[..length]);
            (prefix, length as u32 * 8)
        })
    }
}

/// Ports there are.
pub(crate) const PORTS: usize = 1 << 16;

/// The memory of a sieve in userspace.
pub(crate) struct Notebook {
    ports: Box<[u8; PORTS]>,
    paths: Vec<(Path, usize)>,
    unknown_media: bool,
    wishes: HashMap<Endpoint, Wish, RandomState>,
    media: usize,
    flows: Recent,
}

/// Connections in two generations: when the younger one is full, the older one is forgotten.
struct Recent {
    young: HashMap<Flow, Class, RandomState>,
    old: HashMap<Flow, Class, RandomState>,
    half: usize,
}

impl Notebook {
    /// Nothing is remembered yet.
    pub(crate) fn new(told: &Sieving) -> Notebook {
        let paths = told.prefixes().map(|(path, bits)| (path, bits as usize / 8)).collect();
        let half = (told.flows as usize / 2).max(1);
        Notebook {
            ports: told.port_table(),
            paths,
            unknown_media: told.unknown_media,
            wishes: HashMap::default(),
            media: told.media as usize,
            flows: Recent { young: HashMap::default(), old: HashMap::default(), half },
        }
    }

    /// Notes what is wanted of an endpoint's media; `None` forgets it. Says whether there was room.
    pub(crate) fn wish_for(&mut self, endpoint: Endpoint, wish: Option<Wish>) -> bool {
        match wish {
            None => {
                self.wishes.remove(&endpoint);
                true
            }
            Some(wish) if self.wishes.len() < self.media || self.wishes.contains_key(&endpoint) => {
                self.wishes.insert(endpoint, wish);
                true
            }
            Some(_) => false,
        }
    }
}

impl Memory for Notebook {
    fn port(&self, port: u16) -> Ports {
        Ports(self.ports[usize::from(port)])
    }

    fn wish(&self, endpoint: &Endpoint) -> Option<Wish> {
        self.wishes.get(endpoint).copied()
    }

    fn flow(&self, flow: &Flow) -> Option<Class> {
        self.flows.get(flow)
    }

    fn remember(&mut self, flow: &Flow, class: Class) {
        self.flows.insert(*flow, class);
    }

    fn is_trigger(&self, path: &Path) -> bool {
        self.paths.iter().any(|(prefix, length)| path[..*length] == prefix[..*length])
    }

    fn takes_unknown_media(&self) -> bool {
        self.unknown_media
    }
}

impl Recent {
    fn get(&self, flow: &Flow) -> Option<Class> {
        self.young.get(flow).or_else(|| self.old.get(flow)).copied()
    }

    fn insert(&mut self, flow: Flow, class: Class) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(flow, class);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told() -> Sieving {
        Sieving {
            ports: vec![(5080, Ports::SIP), (53, Ports::CONTROL)],
            paths: vec!["/record?".to_owned(), "/a/path/that/is/longer/than/what/is/looked/at".to_owned()],
            unknown_media: true,
            media: 1,
            flows: 4,
        }
    }

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new([10, 0, 0, 1].into(), port)
    }

    #[test]
    fn what_is_configured_adds_to_what_is_always_said() {
        let notebook = Notebook::new(&told());
        assert!(notebook.port(5080).has(Ports::SIP) && notebook.port(5060).has(Ports::SIP));
        assert!(notebook.port(53).has(Ports::CONTROL) && notebook.port(53).has(Ports::NO_MEDIA));
        assert_eq!(notebook.port(80), Ports::default());
    }

    #[test]
    fn beginnings_of_paths() {
        let notebook = Notebook::new(&told());
        let is = |path: &str| {
            let mut bytes = [0; PATH];
            path.bytes().take(PATH).zip(&mut bytes).for_each(|(from, to)| *to = from);
            notebook.is_trigger(&bytes)
        };
        assert!(
            is("/record?action=start HTTP/1.1") && is("/a/path/that/is/longer/than/what/is/something/else")
        );
        assert!(!is("/recordings") && !is("/") && !is(""));
    }

    #[test]
    fn room_for_wishes_is_limited() {
        let mut notebook = Notebook::new(&told());
        assert!(notebook.wish_for(endpoint(4000), Some(Wish::Wanted)));
        assert!(!notebook.wish_for(endpoint(4002), Some(Wish::Wanted)));
        assert!(notebook.wish_for(endpoint(4000), Some(Wish::Unwanted)));
        assert_eq!(notebook.wish(&endpoint(4000)), Some(Wish::Unwanted));
        assert!(notebook.wish_for(endpoint(4000), None) && notebook.wish(&endpoint(4000)).is_none());
    }

    #[test]
    fn the_latest_connections_are_remembered() {
        let mut notebook = Notebook::new(&told());
        let flow = |port| Flow::between(endpoint(port), endpoint(80));
        for port in 1..=5 {
            notebook.remember(&flow(port), Class::Http);
        }
        let known: Vec<u16> = (1..=5).filter(|port| notebook.flow(&flow(*port)).is_some()).collect();
        assert_eq!(known, [3, 4, 5]);
    }
}
