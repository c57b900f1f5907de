//! Which mutation is alive in this process: the one that the environment variable
//! `STAMPEDE_MUTATION` names. This module is in the mutated copy of the tree alone, where every
//! mutation asks it; whoever makes the copy adds the list `NAMES`.

/// Whether this mutation is alive. A name that is no mutation's does not compile.
#[macro_export]
macro_rules! mutated {
    ($name:literal) => {{
        const NUMBER: usize = $crate::mutated::number($name);
        $crate::mutated::is_alive(NUMBER)
    }};
}

/// The place of a name in the list.
///
/// # Panics
/// When it is not in there.
pub const fn number(name: &str) -> usize {
    let (mut at, name) = (0, name.as_bytes());
    while at < NAMES.len() {
        let known = NAMES[at].as_bytes();
        let mut same = 0;
        while same < name.len() && same < known.len() && name[same] == known[same] {
            same += 1;
        }
        if same == name.len() && same == known.len() {
            return at;
        }
        at += 1;
    }
    panic!("no mutation has this name")
}

/// Whether the mutation of this number is alive.
///
/// # Panics
/// When the variable names no mutation: a typing error must not look like a mutation that escaped.
pub fn is_alive(number: usize) -> bool {
    static ALIVE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let alive = *ALIVE.get_or_init(|| {
        let name = std::env::var("STAMPEDE_MUTATION").ok().filter(|name| !name.is_empty())?;
        let number = NAMES.iter().position(|known| *known == name);
        Some(number.unwrap_or_else(|| panic!("STAMPEDE_MUTATION={name} is no mutation")))
    });
    alive == Some(number)
}

