//! DVI4: IMA ADPCM whose packets begin with the predictor's state, so that each can be decoded by itself
//! (RFC 3551, 4.5.1).

/// Octets before the codes: predicted value, index, reserved.
const HEADER: usize = 4;

/// By how much a code moves the index into [`STEPS`]; the sign does not matter.
const MOVES: [i8; 8] = [-1, -1, -1, -1, 2, 4, 6, 8];

/// Step sizes of the quantiser.
const STEPS: [i16; 89] = [
    7, 8, 9, 10, 11, 12, 13, 14, 16, 17, 19, 21, 23, 25, 28, 31, 34, 37, 41, 45, 50, 55, 60, 66, 73, 80, 88,
    97, 107, 118, 130, 143, 157, 173, 190, 209, 230, 253, 279, 307, 337, 371, 408, 449, 494, 544, 598, 658,
    724, 796, 876, 963, 1060, 1166, 1282, 1411, 1552, 1707, 1878, 2066, 2272, 2499, 2749, 3024, 3327, 3660,
    4026, 4428, 4871, 5358, 5894, 6484, 7132, 7845, 8630, 9493, 10_442, 11_487, 12_635, 13_899, 15_289,
    16_818, 18_500, 20_350, 22_385, 24_623, 27_086, 29_794, 32_767,
];

/// Appends the samples of a packet to `out`.
pub(super) fn decode(payload: &[u8], out: &mut Vec<i16>) {
    let Some((&[high, low, index, _], codes)) = payload.split_first_chunk::<HEADER>() else { return };
    let mut sample = i32::from(i16::from_be_bytes([high, low]));
    let mut index = usize::from(index).min(STEPS.len() - 1);
    for code in codes.iter().flat_map(|&byte| [byte >> 4, byte & 15]) {
        let step = i32::from(STEPS[index]);
        let part = |bit: u8, step: i32| if code & bit != 0 { step } else { 0 };
        let change = (step >> 3) + part(4, step) + part(2, step >> 1) + part(1, step >> 2);
        let change = if code & 8 != 0 { -change } else { change };
        sample = (sample + change).clamp(i32::from(i16::MIN), i32::from(i16::MAX));
        index = index.saturating_add_signed(isize::from(MOVES[usize::from(code & 7)])).min(STEPS.len() - 1);
        out.push(sample as i16);
    }
}
