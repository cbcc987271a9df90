//! The settings that a server begins with, of which h2 does not show all.

/// What every frame begins with: its length in three bytes, its kind, its flags, its stream (RFC 9113, section 4.1).
const HEAD: usize = 9;
const SETTINGS: u8 = 4;
/// A setting's name in two bytes, and its value in four (section 6.5.1).
const SETTING: usize = 6;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// Longer settings than these no server has; they are left unread.
const LONGEST: usize = 1 << 10;

/// The first frame of a server as far as it has come. It is its settings (section 3.4); what a server says of them later
/// is not heard.
#[derive(Debug, Default)]
pub(super) struct FirstSettings(Vec<u8>);

impl FirstSettings {
    /// How many bytes of metadata the server takes, once that is known: `u32::MAX` where it does not say. Nothing is to be
    /// asked after that.
    pub(super) fn metadata_limit(&mut self, came: &[u8]) -> Option<u32> {
        let room = (HEAD + LONGEST).saturating_sub(self.0.len());
        self.0.extend(&came[..came.len().min(room)]);
        let (head, payload) = self.0.split_first_chunk::<HEAD>()?;
        let [a, b, c, kind, ..] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != SETTINGS || length > LONGEST {
            return Some(u32::MAX);
        }
        let settings = payload.get(..length)?.chunks_exact(SETTING);
        let mut limits = settings.filter_map(|setting| {
            let (name, value) = setting.split_first_chunk()?;
            let value = value.try_into().ok()?;
            (u16::from_be_bytes(*name) == MAX_HEADER_LIST_SIZE).then(|| u32::from_be_bytes(value))
        });
        // The last one counts.
        Some(limits.next_back().unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::FirstSettings;

    const WITH_LIMIT: [u8; 21] = [
        0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100, 0, 6, 0, 1, 0, 0,
    ];

    /// What is known after bytes that come in pieces of that size.
    fn heard(bytes: &[u8], piece: usize) -> Option<u32> {
        let mut settings = FirstSettings::default();
        let mut pieces = bytes.chunks(piece);
        pieces.find_map(|piece| settings.metadata_limit(piece))
    }

    #[test]
    fn the_limit_is_found_however_the_settings_are_cut() {
        for piece in 1..=WITH_LIMIT.len() {
            assert_eq!(heard(&WITH_LIMIT, piece), Some(1 << 16));
        }
        assert_eq!(heard(&WITH_LIMIT[..20], 20), None, "not whole yet");
        assert_eq!(heard(&[WITH_LIMIT, WITH_LIMIT].concat(), 42), Some(1 << 16));
    }

    #[test]
    fn settings_without_a_limit_and_what_are_no_settings_limit_nothing() {
        assert_eq!(heard(&[0, 0, 0, 4, 0, 0, 0, 0, 0], 9), Some(u32::MAX));
        assert_eq!(heard(b"HTTP/1.1 400 Bad Request", 24), Some(u32::MAX));
        assert_eq!(heard(&[255, 255, 255, 4, 0, 0, 0, 0, 0], 9), Some(u32::MAX));
    }

    proptest! {
        #[test]
        fn rubbish_panics_nowhere(bytes in vec(any::<u8>(), 0..3_000), piece in 1..500_usize) {
            heard(&bytes, piece);
        }
    }
}
