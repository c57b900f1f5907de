//! What the pages say, and what they never say.

use super::*;
