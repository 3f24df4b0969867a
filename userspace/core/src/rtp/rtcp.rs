//! What RTCP says of streams (RFC 3550 section 6; RFC 3611 section 4.7).

use rtcp_types::{Packet, RtcpPacketParser, RtcpParseError, SdesItem, XrBlockParser, XrBlockStaticType};

/// Packets read of one datagram.
const MAX_PACKETS: usize = 32;
/// Bytes in a word of RTCP's lengths.
const WORD: usize = 4;

/// One statement of a datagram.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statement<'a> {
    /// The sender of the datagram sends a stream.
    Sender {
        /// Its synchronisation source.
        ssrc: u32,
        /// The middle 32 bits of the NTP time at which this was said: who answers will quote it.
        stamp: u32,
    },
    /// The sender of the datagram receives a stream.
    Receiver(Block),
    /// The sender of the datagram receives a stream, which sounds like this.
    Voice(VoipMetrics),
    /// What the sender of a stream calls itself (CNAME).
    Name {
        /// Its synchronisation source.
        ssrc: u32,
        /// As it was sent.
        name: &'a [u8],
    },
}

/// A report block (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Synchronisation source of the stream that is reported on.
    pub ssrc: u32,
    /// Packets lost since the report before, of 256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, less second copies.
    pub lost: i32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter: u32,
    /// Stamp of the sender's report that came last; 0 when none has.
    pub last_report: u32,
    /// How long ago that was, in 1/65536 of a second.
    pub delay: u32,
}

/// The VoIP metrics block (RFC 3611 section 4.7), as far as it says what cannot be seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoipMetrics {
    /// Synchronisation source of the stream that is reported on.
    pub ssrc: u32,
    /// Milliseconds, 0 when it is not known.
    pub round_trip: u16,
    /// Listening quality, ten times the opinion score.
    pub mos_lq: Option<u8>,
    /// Conversational quality, ten times the opinion score.
    pub mos_cq: Option<u8>,
}

/// Reads a datagram, which may be cut off or go on with what is no RTCP: what can be read counts. Calls `say` with
/// each statement.
pub fn read(mut datagram: &[u8], mut say: impl FnMut(Statement<'_>)) {
    for _ in 0..MAX_PACKETS {
        let [first, _, high, low, ..] = *datagram else { return };
        let length = (usize::from(u16::from_be_bytes([high, low])) + 1) * WORD;
        if first >> 6 != 2 || length > datagram.len() {
            return;
        }
        let (packet, rest) = datagram.split_at(length);
        datagram = rest;
        match Packet::parse(packet) {
            Ok(Packet::Sr(report)) => {
                let stamp = (report.ntp_timestamp() >> 16) as u32;
                say(Statement::Sender { ssrc: report.ssrc(), stamp });
                report.report_blocks().for_each(|block| say(Statement::Receiver((&block).into())));
            }
            Ok(Packet::Rr(report)) => {
                report.report_blocks().for_each(|block| say(Statement::Receiver((&block).into())));
            }
            Ok(Packet::Sdes(description)) => {
                for chunk in description.chunks() {
                    let names = chunk.items().filter(|item| item.type_() == SdesItem::CNAME);
                    names.for_each(|item| say(Statement::Name { ssrc: chunk.ssrc(), name: item.value() }));
                }
            }
            Ok(Packet::Xr(report)) => {
                let metrics = report.block_iter().filter_map(|block| block.parse_into::<VoipMetrics>().ok());
                metrics.for_each(|metrics| say(Statement::Voice(metrics)));
            }
            _ => {}
        }
    }
}

impl From<&rtcp_types::ReportBlock<'_>> for Block {
    fn from(block: &rtcp_types::ReportBlock<'_>) -> Block {
        Block {
            ssrc: block.ssrc(),
            fraction_lost: block.fraction_lost(),
            // 24 bits with a sign.
            lost: ((block.cumulative_lost() << 8) as i32) >> 8,
            jitter: block.interarrival_jitter(),
            last_report: block.last_sender_report_timestamp(),
            delay: block.delay_since_last_sender_report_timestamp(),
        }
    }
}

/// Bytes of a VoIP metrics block, its header included.
const METRICS: usize = 36;

impl<'a> XrBlockParser<'a> for VoipMetrics {
    fn parse(data: &'a [u8]) -> Result<VoipMetrics, RtcpParseError> {
        let Some(block) = data.first_chunk::<METRICS>() else {
            return Err(RtcpParseError::Truncated { expected: METRICS, actual: data.len() });
        };
        // 127 is "not available".
        let score = |at: usize| Some(block[at]).filter(|score| (10..=50).contains(score));
        Ok(VoipMetrics {
            ssrc: u32::from_be_bytes([block[4], block[5], block[6], block[7]]),
            round_trip: u16::from_be_bytes([block[16], block[17]]),
            mos_lq: score(26),
            mos_cq: score(27),
        })
    }

    fn header_data(&self) -> [u8; 4] {
        [Self::BLOCK_TYPE, 0, 0, (METRICS / WORD - 1) as u8]
    }
}

impl XrBlockStaticType for VoipMetrics {
    const BLOCK_TYPE: u8 = 7;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtcp_types::prelude::*;
    use rtcp_types::{Compound, ReceiverReport, ReportBlock, Sdes, SdesChunk, SenderReport};

    use super::*;

    fn said(datagram: &[u8]) -> Vec<String> {
        let mut all = Vec::new();
        read(datagram, |statement| all.push(format!("{statement:?}")));
        all
    }

    fn compound() -> Vec<u8> {
        let block = ReportBlock::builder(0x2222).fraction_lost(64).cumulative_lost(0xff_fffe);
        let block = block
            .interarrival_jitter(80)
            .last_sender_report_timestamp(0xabcd)
            .delay_since_last_sender_report_timestamp(65_536);
        let sender =
            SenderReport::builder(0x1111).ntp_timestamp(0x1234_5678_9abc_def0).add_report_block(block);
        let name = SdesChunk::builder(0x1111).add_item(SdesItem::builder(SdesItem::CNAME, "phone@192.0.2.1"));
        let names = Sdes::builder().add_chunk(name);
        let compound = Compound::builder().add_packet(sender).add_packet(names);
        let mut bytes = vec![0; compound.calculate_size().unwrap()];
        compound.write_into(&mut bytes).unwrap();
        bytes
    }

    /// An XR packet with a VoIP metrics block: round trip 42 ms, MOS-LQ 4.1, MOS-CQ not available.
    fn metrics() -> Vec<u8> {
        let mut bytes = vec![0x80, 207, 0, 10, 0, 0, 0x11, 0x11, 7, 0, 0, 8, 0, 0, 0x22, 0x22];
        bytes.extend([0; 8]);
        bytes.extend([0, 42, 0, 0, 0, 0, 0, 16, 93, 127, 41, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn reports_names_and_metrics() {
        let mut datagram = compound();
        datagram.extend(metrics());
        let name = "phone@192.0.2.1".as_bytes();
        let expected = [
            Statement::Sender { ssrc: 0x1111, stamp: 0x5678_9abc },
            Statement::Receiver(Block {
                ssrc: 0x2222,
                fraction_lost: 64,
                lost: -2,
                jitter: 80,
                last_report: 0xabcd,
                delay: 65_536,
            }),
            Statement::Name { ssrc: 0x1111, name },
            Statement::Voice(VoipMetrics { ssrc: 0x2222, round_trip: 42, mos_lq: Some(41), mos_cq: None }),
        ];
        assert_eq!(said(&datagram), expected.map(|statement| format!("{statement:?}")));
    }

    #[test]
    fn what_is_cut_off_counts_as_far_as_it_goes() {
        let datagram = compound();
        assert_eq!(said(&datagram[..datagram.len() - 3]).len(), 2);
        let mut longer = datagram.clone();
        longer.extend([0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(said(&longer).len(), 3);
        assert!(said(&datagram[..7]).is_empty() && said(&[]).is_empty());
    }

    #[test]
    fn a_receiver_that_has_heard_nothing() {
        let report = ReceiverReport::builder(1);
        let mut bytes = vec![0; report.calculate_size().unwrap()];
        report.write_into(&mut bytes).unwrap();
        assert!(said(&bytes).is_empty());
    }

    proptest! {
        #[test]
        fn never_panics(mut bytes: Vec<u8>, kind in 192u8..=223, words: u8, seed in any::<prop::sample::Index>()) {
            said(&bytes);
            if bytes.len() >= 4 {
                (bytes[0], bytes[1], bytes[2], bytes[3]) = (0x80 | bytes[0] & 0x3f, kind, 0, words);
                said(&bytes);
            }
            let mut damaged = compound();
            damaged.extend(metrics());
            let at = seed.index(damaged.len());
            damaged[at] ^= words | 1;
            said(&damaged);
        }
    }
}
