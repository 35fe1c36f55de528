//! The chips that PTX texts are written for.

/// One chip that a text is written for; the text runs on that chip and on newer ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chip {
    /// Its compute capability times ten: 80 for `sm_80`.
    pub compute_capability: u32,
    /// Name of the text's file in `device/ptx`.
    pub file_name: &'static str,
    /// The chips that the text must assemble for, as compute capabilities times ten.
    pub assembles_for: &'static [u32],
}

/// The texts of the shipped system. Two, because clusters need a text of their own.
pub const SHIPPED: [Chip; 2] = [
    Chip { compute_capability: 80, file_name: "tourbillon_sm80.ptx", assembles_for: &[80, 86, 89, 90, 100, 120] },
    // Nothing of sm_90 is left out of later chips, but its text is only meant for chips that have clusters.
    Chip { compute_capability: 90, file_name: "tourbillon_sm90.ptx", assembles_for: &[90, 100, 120] },
];

impl Chip {
    /// The oldest that the engine runs on: its text serves all.
    pub const OLDEST: Self = SHIPPED[0];

    /// The name that the compiler and the assembler know the chip by.
    pub fn name(&self) -> String {
        format!("sm_{}", self.compute_capability)
    }

    /// The compiler flags, which are part of a text's hash.
    ///
    /// PTX 8.4 is the oldest version with 128-bit accesses. Jump threading is off because it copies collectives into both
    /// arms of a branch, where the lanes of a warp no longer meet. The linker does nothing: with fat link-time
    /// optimisation the assembly of the `cdylib` is the whole module.
    pub fn flags(&self) -> Vec<String> {
        vec![
            format!("-Ctarget-cpu={}", self.name()),
            "-Ctarget-feature=+ptx84".into(),
            "-Zmir-enable-passes=-JumpThreading".into(),
            // Without jump tables there are no indirect branches, so a reading of the text sees where everything goes. It
            // made no difference to the latency of a lone message.
            "-Cjump-tables=no".into(),
            "--emit=asm".into(),
        ]
    }

    /// The shipped text of this file name.
    pub fn of_file_name(file_name: &str) -> Option<Self> {
        SHIPPED.into_iter().find(|chip| chip.file_name == file_name)
    }
}
