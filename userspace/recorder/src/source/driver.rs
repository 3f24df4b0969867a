//! What the driver of a network interface says of it, by ethtool's netlink family.

use std::io;
use std::pin::pin;

use ethtool::{
    EthtoolAttr, EthtoolChannelAttr, EthtoolError, EthtoolFeatureAttr, EthtoolFeatureBit, EthtoolHandle,
    EthtoolRingAttr,
};
use futures_util::{Stream, TryStreamExt};
use tokio::task::AbortHandle;

/// A connection to the kernel, by which all drivers can be asked.
pub(crate) struct Driver {
    handle: EthtoolHandle,
    task: AbortHandle,
}

/// Frames for which a queue's receive ring has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ring {
    pub(crate) now: u32,
    pub(crate) max: u32,
}

/// Something that driver or kernel do to frames before a capture sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offload {
    pub(crate) kind: OffloadKind,
    /// The driver does not let it be switched off.
    pub(crate) fixed: bool,
}

/// The offloads after which frames are not what was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffloadKind {
    Gro,
    GroHardware,
    GroList,
    GroUdp,
    Lro,
    Vlan,
}

impl Driver {
    /// Within a tokio runtime with I/O.
    pub(crate) fn open() -> io::Result<Driver> {
        let (connection, handle, _) = ethtool::new_connection()?;
        Ok(Driver { handle, task: tokio::spawn(connection).abort_handle() })
    }

    /// RX queues in use. Most drivers without hardware do not tell.
    pub(crate) async fn rx_queues(&self, interface: &str) -> Result<u32, EthtoolError> {
        let answers = self.handle.clone().channel().get(Some(interface)).execute().await?;
        Ok(queues(&first(answers).await?.payload.nlas))
    }

    /// `None` if the driver does not tell.
    pub(crate) async fn rx_ring(&self, interface: &str) -> Option<Ring> {
        let answers = self.handle.clone().ring().get(Some(interface)).execute().await.ok()?;
        ring(&first(answers).await.ok()?.payload.nlas)
    }

    /// Those that are on; `None` if the driver does not tell.
    pub(crate) async fn offloads(&self, interface: &str) -> Option<Vec<Offload>> {
        let answers = self.handle.clone().feature().get(Some(interface)).execute().await.ok()?;
        offloads(&first(answers).await.ok()?.payload.nlas)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OffloadKind {
    const ALL: [OffloadKind; 6] = [
        OffloadKind::Gro,
        OffloadKind::GroHardware,
        OffloadKind::GroList,
        OffloadKind::GroUdp,
        OffloadKind::Lro,
        OffloadKind::Vlan,
    ];

    /// The kernel's name of it, which `ethtool -K` takes too.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            OffloadKind::Gro => "rx-gro",
            OffloadKind::GroHardware => "rx-gro-hw",
            OffloadKind::GroList => "rx-gro-list",
            OffloadKind::GroUdp => "rx-udp-gro-forwarding",
            OffloadKind::Lro => "rx-lro",
            OffloadKind::Vlan => "rx-vlan-hw-parse",
        }
    }
}

/// A question about one interface has one answer.
async fn first<M>(answers: impl Stream<Item = Result<M, EthtoolError>>) -> Result<M, EthtoolError> {
    let none = || EthtoolError::RequestFailed("the driver does not answer".to_owned());
    pin!(answers).try_next().await?.ok_or_else(none)
}

/// Some drivers have queues that only receive, others such that do both, a few have some of each.
fn queues(answer: &[EthtoolAttr]) -> u32 {
    let counts = answer.iter().filter_map(|attribute| match attribute {
        EthtoolAttr::Channel(
            EthtoolChannelAttr::RxCount(count) | EthtoolChannelAttr::CombinedCount(count),
        ) => Some(*count),
        _ => None,
    });
    counts.fold(0, u32::saturating_add)
}

fn ring(answer: &[EthtoolAttr]) -> Option<Ring> {
    let (mut now, mut max) = (None, None);
    for attribute in answer {
        match attribute {
            EthtoolAttr::Ring(EthtoolRingAttr::Rx(frames)) => now = Some(*frames),
            EthtoolAttr::Ring(EthtoolRingAttr::RxMax(frames)) => max = Some(*frames),
            _ => {}
        }
    }
    Some(Ring { now: now?, max: max? })
}

fn offloads(answer: &[EthtoolAttr]) -> Option<Vec<Offload>> {
    let names = |of: fn(&EthtoolFeatureAttr) -> Option<&Vec<EthtoolFeatureBit>>| {
        answer.iter().find_map(|attribute| match attribute {
            EthtoolAttr::Feature(feature) => of(feature),
            _ => None,
        })
    };
    let has = |bits: &[EthtoolFeatureBit], kind: OffloadKind| {
        bits.iter().any(|bit| bit.value && bit.name == kind.as_str())
    };
    let active =
        names(|feature| if let EthtoolFeatureAttr::Active(bits) = feature { Some(bits) } else { None })?;
    let fixed =
        names(|feature| if let EthtoolFeatureAttr::NoChange(bits) = feature { Some(bits) } else { None });
    let on = OffloadKind::ALL.into_iter().filter(|kind| has(active, *kind));
    Some(on.map(|kind| Offload { kind, fixed: fixed.is_some_and(|bits| has(bits, kind)) }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(names: &[&str]) -> Vec<EthtoolFeatureBit> {
        let bit = |name: &&str| EthtoolFeatureBit { index: 1, name: (*name).to_owned(), value: true };
        names.iter().map(bit).collect()
    }

    #[test]
    fn queues_of_either_sort() {
        use EthtoolChannelAttr::{CombinedCount, CombinedMax, RxCount, TxCount};
        let queues = |attributes: Vec<EthtoolChannelAttr>| {
            super::queues(&attributes.into_iter().map(EthtoolAttr::Channel).collect::<Vec<_>>())
        };
        assert_eq!(queues(vec![CombinedMax(8), CombinedCount(4)]), 4);
        assert_eq!(queues(vec![RxCount(2), TxCount(3)]), 2);
        assert_eq!(queues(vec![RxCount(1), CombinedCount(4)]), 5);
        assert_eq!(queues(vec![]), 0);
    }

    #[test]
    fn rings_that_are_told_whole() {
        use EthtoolRingAttr::{Rx, RxMax, Tx};
        let ring = |attributes: Vec<EthtoolRingAttr>| {
            super::ring(&attributes.into_iter().map(EthtoolAttr::Ring).collect::<Vec<_>>())
        };
        assert_eq!(ring(vec![RxMax(4096), Rx(512), Tx(256)]), Some(Ring { now: 512, max: 4096 }));
        assert_eq!(ring(vec![Rx(512)]), None);
        assert_eq!(ring(vec![]), None);
    }

    #[test]
    fn offloads_that_are_on() {
        use EthtoolFeatureAttr::{Active, NoChange, Wanted};
        let offloads = |attributes: Vec<EthtoolFeatureAttr>| {
            super::offloads(&attributes.into_iter().map(EthtoolAttr::Feature).collect::<Vec<_>>())
        };
        let found = offloads(vec![
            Wanted(bits(&["rx-lro"])),
            Active(bits(&["rx-gro", "tx-lockless", "rx-gro-hw"])),
            NoChange(bits(&["rx-gro-hw", "rx-lro"])),
        ]);
        let on = |kind, fixed| Offload { kind, fixed };
        assert_eq!(found, Some(vec![on(OffloadKind::Gro, false), on(OffloadKind::GroHardware, true)]));
        assert_eq!(offloads(vec![Active(vec![])]), Some(vec![]));
        assert_eq!(offloads(vec![NoChange(bits(&["rx-gro"]))]), None);
    }

    #[test]
    fn the_loopback_has_neither_queues_nor_ring() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let driver = Driver::open().unwrap();
            assert!(driver.rx_queues("lo").await.map_or(true, |queues| queues == 0));
            assert_eq!(driver.rx_ring("lo").await, None);
            assert!(driver.offloads("nosuch0").await.is_none());
        });
    }
}
