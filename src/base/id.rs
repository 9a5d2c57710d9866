//! Identifiers: indexes into columns, never names.

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The identifier of position `index`. Panics past `u32::MAX`, a bug in the caller:
            /// sizes are bounded where input is read.
            pub fn new(index: usize) -> Self {
                Self(u32::try_from(index).expect("sizes are bounded where input is read"))
            }

            /// The position this identifier names.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

id! {
    /// A request: its position in the trace.
    RequestId
}
id! {
    /// An instance: its position in the fleet.
    InstanceId
}
id! {
    /// A client of the workload: its position in the workload's list.
    ClientId
}
