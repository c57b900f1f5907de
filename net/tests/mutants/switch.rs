//! Selects the active mutation of this process, by the environment variable
//! `STAMPEDE_MUTATION`. This module exists only in the mutated copy of the tree, where every
//! mutation asks it. The program that makes the copy appends the list `NAMES`.

/// Whether this mutation is active. An unknown name does not compile.
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
/// If the name is not in the list.
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

/// Whether the mutation with this number is active.
///
/// # Panics
/// If the variable names no mutation: a typing error must not look like a mutation that escaped.
pub fn is_alive(number: usize) -> bool {
    static ALIVE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let alive = *ALIVE.get_or_init(|| {
        let name = std::env::var("STAMPEDE_MUTATION").ok().filter(|name| !name.is_empty())?;
        let number = NAMES.iter().position(|known| *known == name);
        Some(number.unwrap_or_else(|| panic!("STAMPEDE_MUTATION={name} is not a mutation")))
    });
    alive == Some(number)
}

