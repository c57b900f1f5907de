//! What the sale page promises: states, the button, the live region.
//!
//! [`Sale::look`] checks every state: rendered in light and dark and on the
//! narrowest phone, for accessibility, for overflow, and for targets
//! that are too small for a finger.

use serde_json::{Value, json};

use crate::browser::{Browser, NARROW, WIDE};
use crate::e2e_talk::now_ms;

/// Smallest width and height of a target, in CSS pixels.
const TARGET_PX_MIN: u32 = 44;

/// Everything on the page that can be pressed; links within a sentence count as text.
const TARGETS: &str = "button, input:not([type=hidden]), select, summary, a[href]";

/// A browser on a sale page.
pub(crate) struct Sale<'b> {
    pub(crate) browser: &'b Browser,
}

impl<'b> Sale<'b> {
    /// Goes to the page.
    pub(crate) fn at(browser: &'b Browser, url: &str) -> Self {
        browser.go(url);
        Self { browser }
    }

    /// Goes to the page as a returning buyer; new buyers exist only from their first
    /// purchase on.
    pub(crate) fn as_buyer(browser: &'b Browser, url: &str) -> Self {
        let sale = Self::at(browser, url);
        let status = browser.value("fetch('/v1/demo/session', { method: 'POST' }).then(it => it.status)");
        assert_eq!(status, 201);
        sale
    }

    /// Waits until the page is in this state.
    pub(crate) fn wait_for(&self, state: &str) {
        self.browser.wait(&format!("document.querySelector('[data-state]')?.dataset.state == '{state}'"));
    }

    /// Waits until it has been in this state, however briefly, since it was loaded.
    pub(crate) fn wait_until_seen(&self, state: &str) {
        self.browser.wait(&format!("window.states.includes('{state}')"));
    }

    /// The current state.
    pub(crate) fn state(&self) -> String {
        self.browser.attribute("[data-state]", "data-state").expect("the page has a state")
    }

    /// The order that it shows.
    pub(crate) fn order(&self) -> Option<String> {
        self.browser.attribute("[data-state]", "data-order").filter(|order| !order.is_empty())
    }

    /// The text of the button.
    pub(crate) fn button(&self) -> String {
        self.browser.text("#buy")
    }

    /// Whether the button says that pressing it does nothing, and never by `disabled`, which
    /// would lose the focus.
    pub(crate) fn is_grey(&self) -> bool {
        assert_eq!(self.browser.attribute("#buy", "disabled"), None);
        self.browser.attribute("#buy", "aria-disabled").as_deref() == Some("true")
    }

    pub(crate) fn press(&self) {
        self.browser.click("#buy");
    }

    /// Presses the button of a page without scripts, which leads to another page.
    pub(crate) fn send(&self) {
        self.browser.click_through("#buy");
    }

    pub(crate) fn focus_is_on_the_button(&self) -> bool {
        self.browser.value("document.activeElement.id") == "buy"
    }

    /// Renders the page in light, dark and narrow, and checks each.
    pub(crate) fn look(&self, label: &str) {
        let browser = self.browser;
        for (dark, size, suffix) in [(false, WIDE, "light"), (true, WIDE, "dark"), (true, NARROW, "narrow")] {
            // Without motion, so that no colour is caught in a transition.
            browser.prefer(dark, true);
            browser.resize(size);
            let label = format!("{label}-{suffix}");
            browser.screenshot(&label);
            if size == NARROW {
                assert_eq!(self.sticks_out(), json!([]), "{label}: wider than the window");
                assert_eq!(self.too_small(), json!([]), "{label}: smaller than {TARGET_PX_MIN} px");
            } else {
                assert_eq!(self.violations(), Vec::<String>::new(), "{label}");
            }
        }
        browser.prefer(false, false);
        browser.resize(WIDE);
    }

    /// What axe-core finds. A page without script can only refresh itself in the way
    /// that axe-core objects to, and says so in its text.
    fn violations(&self) -> Vec<String> {
        let found = self.browser.violations();
        let found =
            found.lines().filter(|line| self.browser.runs_scripts() || !line.starts_with("meta-refresh "));
        found.map(str::to_owned).collect()
    }

    /// What overflows the right edge; nothing if the page cannot be scrolled.
    fn sticks_out(&self) -> Value {
        self.browser.value(
            "document.documentElement.scrollWidth <= innerWidth ? [] :
             [...document.querySelectorAll('body *')]
                 .filter(part => part.getBoundingClientRect().right > innerWidth)
                 .map(part => part.outerHTML.slice(0, 80))",
        )
    }

    fn too_small(&self) -> Value {
        self.browser.run(
            "return [...document.querySelectorAll(arguments[0])]
                 .filter(part => part.checkVisibility() && !part.closest('p, li > span'))
                 .map(part => [part.outerHTML.slice(0, 80), part.getBoundingClientRect()])
                 .filter(([, box]) => box.width < arguments[1] || box.height < arguments[1])
                 .map(([html, box]) => `${html} is ${box.width} by ${box.height}`)",
            &json!([TARGETS, TARGET_PX_MIN]),
        )
    }

    /// Fails if the console has anything but refusals and lost connections, which the
    /// tests cause themselves: a script's error, a violation of the page's policy.
    pub(crate) fn check_console(&self) {
        let log = self.browser.log();
        let faults: Vec<&String> =
            log.iter().filter(|line| !line.contains("Failed to load resource:")).collect();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Reloads the page with a computer clock that is wrong by this much.
    pub(crate) fn reload_with_clock_wrong_by(&self, ms: i64) {
        self.browser.run_first(&format!(
            "{{ const now = Date.now; Date.now = () => now() + {ms};
               Date = class extends Date {{ constructor(...a) {{ a.length ? super(...a) : super(Date.now()) }} }} }}"
        ));
        self.browser.reload();
        let believed = self.browser.value("Date.now()").as_i64().expect("a moment");
        let off = believed - i64::try_from(now_ms()).unwrap();
        assert!((off - ms).abs() < 60_000, "the clock is not set: {off}");
    }
}
