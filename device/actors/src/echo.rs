//! Returns what it got.

use tourbillon_device::{Context, Handler, NoError, Plain, State, actor};

/// An actor that returns what it got.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, State)]
pub struct Echo {
    /// Messages returned.
    pub returned: u64,
}

macro_rules! ping {
    ($(#[$attribute:meta])* $name:ident, $words:literal) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Plain)]
        pub struct $name {
            /// Any content.
            pub words: [u32; $words],
        }

        impl Handler<$name> for Echo {
            type Reply = $name;

            fn handle(&mut self, message: &$name, _context: &mut Context) -> Result<$name, NoError> {
                self.returned += 1;
                Ok(*message)
            }
        }
    };
}

ping!(
    /// 16 bytes: a frame of one slot.
    Ping16,
    4
);
ping!(
    /// 64 bytes: a frame of two slots.
    Ping64,
    16
);
ping!(
    /// 352 bytes: the largest frame, eight slots.
    Ping352,
    88
);

actor!(Echo { kind: 1, error: NoError, messages: { 0: Ping16, 1: Ping64, 2: Ping352 } });
