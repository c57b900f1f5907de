//! Protobuf by hand: fields out and in. Only what etcd's messages need: varints and bytes. Next: [`super::messages`].

/// Builds a message field by field. Zero and empty are left out, as proto3 does.
#[derive(Default)]
pub(super) struct Message(Vec<u8>);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

impl Message {
    pub(super) fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3 | VARINT);
            self.varint(value);
        }
        self
    }

    pub(super) fn flag(self, field: u64, value: bool) -> Self {
        self.number(field, u64::from(value))
    }

    pub(super) fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.part(field, value);
        }
        self
    }

    /// As [`Message::number`], and there also when it is zero: one of a choice.
    pub(super) fn chosen_number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3 | VARINT);
        self.varint(value);
        self
    }

    /// As [`Message::bytes`], and there also when it is empty.
    pub(super) fn chosen_bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.part(field, value);
        self
    }

    pub(super) fn message(self, field: u64, value: &Self) -> Self {
        self.chosen_bytes(field, &value.0)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn part(&mut self, field: u64, value: &[u8]) {
        self.varint(field << 3 | BYTES);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A field of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

impl<'b> Field<'b> {
    pub(super) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(value) => Ok(value),
            Self::Bytes(_) => Err(Malformed),
        }
    }
    pub(super) fn bytes(self) -> Result<&'b [u8], Malformed> {
        match self {
            Self::Bytes(value) => Ok(value),
            Self::Number(_) => Err(Malformed),
        }
    }
}

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// Calls `take` with each field of a message, in order. Fixed widths are passed over: etcd uses none that count here.
pub(super) fn each_field<'b>(
    mut rest: &'b [u8],
    mut take: impl FnMut(u64, Field<'b>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let field = match tag & 7 {
            VARINT => Field::Number(varint(&mut rest)?),
            BYTES => {
                let len = usize::try_from(varint(&mut rest)?).map_err(|_| Malformed)?;
                Field::Bytes(split(&mut rest, len)?)
            }
            FIXED64 => {
                split(&mut rest, 8)?;
                continue;
            }
            FIXED32 => {
                split(&mut rest, 4)?;
                continue;
            }
            _ => return Err(Malformed),
        };
        take(tag >> 3, field)?;
    }
    Ok(())
}

fn split<'b>(rest: &mut &'b [u8], len: usize) -> Result<&'b [u8], Malformed> {
    let (head, tail) = rest.split_at_checked(len).ok_or(Malformed)?;
    *rest = tail;
    Ok(head)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = split(rest, 1)?[0];
        let bits = u64::from(byte & 0x7F);
        if shift == 63 && bits > 1 {
            return Err(Malformed);
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in any::<u64>(), small in 1..300_u64, bytes in prop::collection::vec(any::<u8>(), 1..400)) {
            let message = Message::default().number(1, number).bytes(2, &bytes).number(300, small).into_bytes();
            let mut seen = Vec::new();
            each_field(&message, |field, value| { seen.push((field, value)); Ok(()) }).expect("ours");
            let mut expected = vec![(2, Field::Bytes(&bytes)), (300, Field::Number(small))];
            if number != 0 {
                expected.insert(0, (1, Field::Number(number)));
            }
            prop_assert_eq!(seen, expected);
            // Cut anywhere, it is malformed or has fewer fields; nothing panics.
            for cut in 0..message.len() {
                let _judged = each_field(&message[..cut], |_, _| Ok(()));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _judged = each_field(&bytes, |_, _| Ok(()));
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        assert_eq!(each_field(&[0x0A, 5, 1], |_, _| Ok(())), Err(Malformed));
        assert_eq!(
            each_field(&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], |_, _| Ok(())),
            Err(Malformed)
        );
        assert_eq!(
            each_field(&[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02], |_, _| Ok(())),
            Err(Malformed)
        );
        assert_eq!(each_field(&[0x0B], |_, _| Ok(())), Err(Malformed), "a group");
    }
}
