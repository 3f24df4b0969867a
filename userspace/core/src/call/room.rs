//! Room for calls: what they take, and which of them are given up when there is none left.

use std::collections::BTreeSet;

use super::table::Calls;
use super::{Call, Context};
use crate::media::{CallKey, Flows};
use crate::record::{EndReason, Party};
use crate::time::{SECOND, Timestamp};

/// Bytes that a call takes in tables, with what allocations cost.
const OVERHEAD: usize = 1024;
/// Of a tape, so much is in memory: a second and a half, for it leaves in blocks.
const TAPE_SECONDS: f64 = 1.5;
/// Calls whose place is looked up anew for one that is given up.
const LOOKS: usize = 4096;

/// How much is lost with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Worth {
    /// It has ended: its last stragglers.
    Over,
    /// Nobody has answered, with as much as a ringing phone, or only a part of the dialog is seen.
    Unanswered,
    /// There are two parties.
    Answered,
    /// With media, which is not kept.
    Heard,
    /// With media that is, here or by another engine.
    Recorded,
}

/// The place of a call among those that may be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    worth: Worth,
    /// In which second something of it came last: what is seen of its media is not told with every packet.
    last: Timestamp,
    /// Bytes that it takes, about.
    memory: usize,
}

/// Calls in the order in which they are given up: what is worth least first, and of that what has been idle longest.
#[derive(Debug, Default)]
pub(super) struct Room {
    order: BTreeSet<(Worth, Timestamp, CallKey)>,
    /// Bytes that calls take, those that are recorded and the others.
    recorded: usize,
    others: usize,
}

impl Room {
    /// Something of a call has changed.
    pub(super) fn update(&mut self, key: CallKey, place: &mut Option<Place>, now: Place) {
        if *place != Some(now) {
            self.leave(key, place.take());
            self.order.insert((now.worth, now.last, key));
            *self.memory_of(now.worth) += now.memory;
            *place = Some(now);
        }
    }

    /// The call is gone.
    pub(super) fn leave(&mut self, key: CallKey, place: Option<Place>) {
        if let Some(place) = place {
            self.order.remove(&(place.worth, place.last, key));
            *self.memory_of(place.worth) -= place.memory;
        }
    }

    fn memory_of(&mut self, worth: Worth) -> &mut usize {
        if worth == Worth::Recorded { &mut self.recorded } else { &mut self.others }
    }
}

impl Calls {
    /// Bytes that calls take which are not being recorded, about.
    pub fn idle_memory(&self) -> usize {
        self.room.others
    }

    /// Bytes that calls take which are being recorded, about.
    pub fn recorded_memory(&self) -> usize {
        self.room.recorded
    }

    /// Gives up the call with which least is lost, for want of room; one that is being recorded only where
    /// `recorded` says so. Returns whether there was one.
    pub fn give_up_idlest(&mut self, recorded: bool, context: &mut Context<'_>) -> bool {
        let mut looks = 0;
        while let Some(&(worth, last, key)) = self.room.order.first()
            && (recorded || worth < Worth::Recorded)
        {
            let Some(call) = self.calls.get_mut(key.slot).filter(|call| call.key == key) else {
                self.room.order.remove(&(worth, last, key));
                continue;
            };
            let now = Place::of(call, context.flows);
            looks += 1;
            if (now.worth, now.last) != (worth, last) && looks < LOOKS {
                self.room.update(key, &mut call.place, now);
                continue;
            }
            self.evicted += 1;
            self.finish(key, EndReason::Evicted, context);
            return true;
        }
        false
    }
}

impl Place {
    /// Where a call stands now.
    pub(super) fn of(call: &Call, flows: &Flows) -> Place {
        let last_media = call.heard_until(flows);
        let worth = if call.is_over() {
            Worth::Over
        } else if call.recorder.tape.is_some() || call.is_recorded_elsewhere() {
            Worth::Recorded
        } else if last_media.is_some() || call.is_ignored() {
            Worth::Heard
        } else if call.callee_tags.is_empty() || call.joined {
            Worth::Unanswered
        } else {
            Worth::Answered
        };
        let last = last_media.map_or(call.last_signal, |media| media.max(call.last_signal));
        Place { worth, last: Timestamp(last.0 - last.0.rem_euclid(SECOND)), memory: call.memory() }
    }
}

impl Call {
    /// Bytes that it takes, about, without its flows.
    fn memory(&self) -> usize {
        let bytes = |all: &[Box<[u8]>]| all.iter().map(|one| one.len() + 32).sum::<usize>();
        let party = |party: &Party| {
            let texts = [&party.user, &party.uri, &party.display, &party.user_agent];
            texts.map(|text| text.capacity()).iter().sum::<usize>()
        };
        let tape = self.recorder.tape.as_ref().map_or(0, |tape| {
            let audio = f64::from(tape.rate) * TAPE_SECONDS * 4.0;
            audio as usize + tape.history_memory()
        });
        let session = self.session.as_ref().map_or(0, |session| {
            size_of_val(&**session) + 2 * bytes(&session.groups) + session.dialogs.len() * (256 + OVERHEAD)
        });
        OVERHEAD
            + size_of::<Call>()
            // The Call-ID stands here, in its text, and in the table.
            + 3 * self.raw_call_id.len()
            + bytes(&self.caller_tags)
            + bytes(&self.callee_tags)
            + party(&self.from)
            + party(&self.to)
            + self.names.memory()
            + self.descriptions.memory()
            + self.triggers.len() * 512
            + self.recorder.memory()
            + (self.seen.len() + self.flows.len()) * 16
            + tape
            + session
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_least_goes_first_then_what_has_been_idle_longest() {
        let mut room = Room::default();
        let key = |generation: u64| CallKey { generation, slot: 0 };
        let mut places = [None; 4];
        let all =
            [(Worth::Recorded, 1), (Worth::Unanswered, 9), (Worth::Unanswered, 3), (Worth::Answered, 2)];
        for (index, (worth, last)) in all.into_iter().enumerate() {
            let now = Place { worth, last: Timestamp(last), memory: 10 };
            room.update(key(index as u64), &mut places[index], now);
        }
        assert_eq!((room.recorded, room.others), (10, 30));
        let order: Vec<u64> = room.order.iter().map(|(_, _, key)| key.generation).collect();
        assert_eq!(order, [2, 1, 3, 0]);
        // It is not being recorded any more, and takes less.
        let now = Place { worth: Worth::Over, last: Timestamp(20), memory: 4 };
        room.update(key(0), &mut places[0], now);
        assert_eq!((room.recorded, room.others), (0, 34));
        for (index, place) in places.into_iter().enumerate() {
            room.leave(key(index as u64), place);
        }
        assert_eq!((room.order.len(), room.others), (0, 0));
    }
}
