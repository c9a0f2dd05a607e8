//! [`MoveToFront`]: the list of bytes that a block uses, in which the one used last is the first.

/// Bytes of the list that are in [`MoveToFront::front`].
const FRONT: usize = 16;

/// By position: which bytes of the front are behind it.
static BEHIND: [u128; FRONT] = behind();

const fn behind() -> [u128; FRONT] {
    let mut behind = [0; FRONT];
    let mut position = 0;
    while position + 1 < FRONT {
        behind[position] = u128::MAX << (8 * (position + 1));
        position += 1;
    }
    behind
}

/// The list. Most of what is asked for is near its beginning, which is a number, the first byte the lowest: a byte is
/// moved there without a branch that could be predicted wrongly.
pub(super) struct MoveToFront {
    front: u128,
    rest: [u8; 256 - FRONT],
}

impl MoveToFront {
    /// Makes a list that begins with `bytes`, of which there are at most 256.
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut list = Self {
            front: 0,
            rest: [0; 256 - FRONT],
        };
        let (front, rest) = bytes.split_at(bytes.len().min(FRONT));
        for byte in front.iter().rev() {
            list.front = list.front << 8 | u128::from(*byte);
        }
        for (to, from) in list.rest.iter_mut().zip(rest) {
            *to = *from;
        }
        list
    }

    /// Returns the byte at a position, and moves it to the front.
    #[inline]
    pub(super) fn take(&mut self, position: u8) -> u8 {
        let position = usize::from(position);
        if position >= FRONT {
            return self.take_far(position - FRONT);
        }
        let [byte, ..] = (self.front >> (8 * position)).to_le_bytes();
        let behind = BEHIND[position];
        self.front = (self.front & behind) | (self.front << 8 & !behind) | u128::from(byte);
        byte
    }

    fn take_far(&mut self, position: usize) -> u8 {
        let byte = self.rest[position];
        self.rest.copy_within(..position, 1);
        let [pushed_out, ..] = self.front.to_be_bytes();
        self.rest[0] = pushed_out;
        self.front = self.front << 8 | u128::from(byte);
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::MoveToFront;

    #[test]
    fn the_list_is_one_from_which_bytes_are_removed_and_put_first() {
        let mut plain: Vec<u8> = (0..=255).rev().collect();
        let mut list = MoveToFront::new(&plain);
        for step in 0_u32..5000 {
            let position = (step * step / 7 + step).to_le_bytes()[0] >> (step % 7);
            let byte = plain.remove(position.into());
            plain.insert(0, byte);
            assert_eq!(list.take(position), byte, "{step}");
        }
    }
}
