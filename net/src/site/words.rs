//! Every text of the sale page, in every language, and which language a reader gets.
//!
//! A language is a value of one struct, so that a text which is missing in one of them
//! does not compile. `{t}` and `{n}` stand for a time and a number. Next: [`super::render`].

use crate::http::field::Field;
use crate::http::json_out;
use crate::http::negotiate::weight;

/// The languages that are spoken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lang {
    /// English, and whoever asks for nothing that is spoken.
    English,
    /// Chinese.
    Chinese,
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The language that `Accept-Language` likes best (RFC 9110 section 12.5.4); of two that
    /// are liked equally, the one that is named first.
    pub fn choose(accepts: Field<'_>) -> Self {
        let (mut best, mut chosen) = (0, Self::English);
        for entry in accepts.last().unwrap_or_default().split(|&byte| byte == b',') {
            let mut parts = entry.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let Some(lang) = Self::of_range(parts.next().unwrap_or_default()) else { continue };
            let weight = weight(parts);
            if weight > best {
                (best, chosen) = (weight, lang);
            }
        }
        chosen
    }

    fn of_range(range: &[u8]) -> Option<Self> {
        let primary = range.split(|&byte| byte == b'-').next().unwrap_or_default();
        match () {
            () if primary.eq_ignore_ascii_case(b"en") || primary == b"*" => Some(Self::English),
            () if primary.eq_ignore_ascii_case(b"zh") => Some(Self::Chinese),
            () => None,
        }
    }

    /// Its tag, for `<html lang>`.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-CN",
        }
    }

    /// What is said in it.
    pub const fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

macro_rules! words {
    (
        script { $($s:ident: $s_en:literal, $s_zh:literal;)+ }
        page { $($p:ident: $p_en:literal, $p_zh:literal;)+ }
    ) => {
        /// Every text in one language. The names say where it stands: `b_` on the button, `n_`
        /// below it, `t_` beside the time, `say_` aloud, `p_` on a page about a refusal.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "the texts themselves stand below")]
        pub struct Words { $(pub $s: &'static str,)+ $(pub $p: &'static str,)+ }

        static ENGLISH: Words = Words { $($s: $s_en,)+ $($p: $p_en,)+ };
        static CHINESE: Words = Words { $($s: $s_zh,)+ $($p: $p_zh,)+ };

        impl Words {
            /// The texts that the script needs, as a JSON object.
            pub fn for_script(&self) -> Vec<u8> {
                let mut out = Vec::new();
                json_out::object(&mut out, |object| {
                    $(object.text(stringify!($s), self.$s);)+
                });
                out
            }

            #[cfg(test)]
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$((stringify!($s), self.$s),)+ $((stringify!($p), self.$p),)+]
            }
        }
    };
}

words! {
    script {
    b_upcoming: "Not open yet", "尚未开售";
    b_open: "Buy now", "立即抢购";
    b_draw: "Enter the draw", "参加抽签";
    b_sending: "Sending…", "正在提交…";
    b_challenge: "Confirm", "确认";
    b_waiting: "Waiting for the answer…", "等待结果…";
    b_won: "It is yours", "抢购成功";
    b_held: "Reserved for you", "已为您保留";
    b_entered: "You are in the draw", "已参加抽签";
    b_lost: "Not drawn", "未中签";
    b_sold_out: "Sold out", "已售罄";
    b_ended: "The sale is over", "活动已结束";
    b_limited: "Please wait", "请稍候";
    b_paused: "Paused", "暂停销售";
    b_offline: "You are offline", "网络已断开";
    b_sign_in: "Sign in first", "请先登录";
    b_not_eligible: "Not open to this account", "此账号不符合条件";
    n_upcoming: "The button opens by itself. Pressing early costs nothing.", "到点自动开放，提前点击没有任何影响。";
    n_open: "One press is enough. Pressing twice never buys twice.", "点一次就够了，重复点击不会重复下单。";
    n_draw: "All who enter in time have the same chance. Being fast does not help.", "截止前参加的人机会均等，快慢无关。";
    n_sending: "Your order is on its way.", "订单正在提交。";
    n_challenge: "Type the result of the sum in the picture.", "请输入图中算式的结果。";
    n_waiting: "The crowd is large. We keep asking for you; there is nothing to press.", "人数较多，正在为您继续尝试，无需操作。";
    n_won: "Your order is recorded. You may close this page.", "订单已记录，可以关闭此页面。";
    n_paid: "It is paid, and your order is recorded. You may close this page.", "已付款，订单已记录，可以关闭此页面。";
    n_held: "Pay before the time is up, or it goes back on sale.", "请在时间结束前付款，否则将重新出售。";
    n_pending: "It becomes yours when you pay, as long as there is any left.", "付款后即归您所有，先付先得。";
    pay_shop: "Pay in the shop's checkout.", "请在商城收银台付款。";
    n_entered: "You may close this page and come back after the draw.", "可以关闭此页面，抽签后再回来查看。";
    n_lost: "The draw was held, and it was not you this time.", "抽签已结束，这次没有抽中。";
    n_sold_out: "Nothing is left. If the shop adds more, this page will show it.", "已全部售出。如有补货，此页面会自动更新。";
    n_sold_out_hold: "Everything is reserved. What is not paid for in time comes back, and this page will show it.", "已全部被预订。逾期未付款的会重新出售，此页面会自动更新。";
    n_ended: "Thank you for coming.", "感谢您的参与。";
    n_limited: "Too many requests came from here. It goes on by itself.", "请求过于频繁，稍后会自动继续。";
    n_paused: "The shop has stopped the sale for the moment. This page goes on by itself.", "商家暂停了销售，恢复后此页面会自动更新。";
    n_offline: "Nothing is lost. We go on as soon as the connection is back.", "不会丢失任何内容，网络恢复后会自动继续。";
    n_sign_in: "Please sign in at the shop, then come back to this page.", "请先在商城登录，然后回到此页面。";
    n_not_eligible: "The shop sells this item to certain accounts only.", "商家仅向部分账号出售此商品。";
    n_failed: "That did not work, and nothing was bought. Please press again.", "未能成功，没有下单。请再试一次。";
    n_expired: "The time to pay was over, and the order went back. You may try again.", "付款时间已过，订单已取消。可以重新抢购。";
    n_cancelled: "The order was called off. You may try again.", "订单已取消，可以重新抢购。";
    n_refunded: "The order was refunded.", "订单已退款。";
    n_early: "Not yet. It opens in {t}.", "还没开始，{t}后开售。";
    n_opening: "Opening…", "即将开始…";
    t_opens: "Opens in", "距开售";
    t_draws: "The draw closes in", "距抽签截止";
    t_pays: "Left to pay", "剩余付款时间";
    t_closes: "Closes in", "距结束";
    t_retries: "Goes on in", "继续倒计时";
    band_plenty: "Plenty left", "库存充足";
    band_few: "Few left", "库存紧张";
    band_last: "The last ones", "仅剩最后几件";
    band_none: "None left", "已无库存";
    say_open: "The sale is open.", "已经开售。";
    say_left: "It opens in {t}.", "{t}后开售。";
    u_d: "{n} d", "{n} 天";
    u_h: "{n} h", "{n} 小时";
    u_m: "{n} min", "{n} 分钟";
    u_s: "{n} s", "{n} 秒";
    order: "Order {n}", "订单 {n}";
    pow_busy: "Your device is working: {n} %", "设备正在计算：{n} %";
    pow_cannot: "Your device cannot do this here. Please use the picture.", "此设备无法计算，请使用图片。";
    challenge_again: "That was not right. Here is a new picture.", "答案不对，请看新的图片。";
    draw_seal: "The draw was sealed before the sale. Its seal:", "抽签结果在开售前已封存。封条：";
    draw_seed: "The seal was opened. Its seed:", "封条已打开。种子：";
    }
    page {
    brand: "Stampede", "Stampede";
    sales: "Sales", "抢购活动";
    sales_lead: "Everybody has the same clock here: the shop's.", "所有人都以商家的时钟为准。";
    no_sales: "There is no sale at the moment.", "目前没有活动。";
    skip: "To the sale", "跳到内容";
    free: "Free", "免费";
    cap_one: "One per buyer", "每人限购一件";
    cap_many: "At most {n} per buyer", "每人限购 {n} 件";
    opens_at: "Opens at", "开售时间";
    closes_at: "Open until", "结束时间";
    pay_by: "Pay before", "付款截止";
    s_upcoming: "Soon", "即将开售";
    s_open: "Open", "抢购中";
    s_sold_out: "Sold out", "已售罄";
    s_paused: "Paused", "暂停";
    s_ended: "Over", "已结束";
    next: "What happens next", "接下来";
    next_press: "When the sale opens, press the button once.", "开售后，点一次按钮。";
    next_order: "As soon as you read that it is yours, the order is on record and cannot be lost.", "看到“抢购成功”时，订单已经永久记录，不会丢失。";
    next_hold: "What you get is reserved for {t}. Pay in that time, or it goes back on sale.", "抢到后为您保留 {t}。请在此时间内付款，否则将重新出售。";
    next_pending: "What you order becomes yours when you pay, as long as there is any left.", "下单后付款即归您所有，先付先得。";
    next_enter: "Enter once. All who enter in this time are equal, the first and the last.", "登记一次即可。在此期间登记的人机会均等，不分先后。";
    next_drawn: "Then the draw is held. Come back here: the page shows whether it is yours.", "随后摇号。回到本页即可看到是否中签。";
    next_check: "The draw was sealed before the sale; when it is over anybody can recompute who won.", "摇号种子在开售前已封存；结束后任何人都能复算中签结果。";
    next_result: "The answer is final: sold out means that it is.", "结果以页面为准：售罄就是真的没有了。";
    next_result_hold: "Reserved is not sold: what is not paid for in time comes back here.", "预订不等于售出：逾期未付款的会重新出售。";
    answer_label: "The result", "算式结果";
    drawing: "A drawing of a small sum", "一道简单算式的图片";
    pow: "I can't see the picture: let my device work instead", "看不到图片？让设备代为计算";
    pow_script: "To let your device work instead, switch JavaScript on.", "若要让设备代为计算，请启用 JavaScript。";
    confirm_title: "One more step", "还差一步";
    confirm_lead: "You may buy now. Confirm the order.", "现在可以下单，请确认。";
    pay: "Pay now (demo)", "立即付款（演示）";
    cancel: "Give it back", "放弃订单";
    again: "Try again", "重新抢购";
    back: "Back to the sale", "返回活动页";
    all: "All sales", "全部活动";
    quantity: "{n} pieces", "{n} 件";
    reload: "This page renews itself.", "此页面会自动刷新。";
    p_cap: "You have it already", "您已经抢到了";
    p_cap_note: "Your earlier order has used up what one buyer may have.", "您之前的订单已达到限购数量。";
    p_busy: "Too many at once", "人太多了";
    p_busy_note: "Nothing was lost and nothing was bought. Go back and press again.", "没有下单，也没有任何损失。请返回再试一次。";
    p_late: "The time to pay is over", "付款时间已过";
    p_fixed: "This order can no longer be changed", "此订单不能再更改";
    p_fixed_note: "It was paid, or it is over. Its page shows how it stands.", "订单已付款或已结束，详情请查看订单页。";
    p_missing: "There is nothing here", "此页面不存在";
    p_missing_note: "The sale or the order does not exist, or is not yours.", "活动或订单不存在，或不属于您。";
    p_cookie: "This page needs a cookie", "此页面需要 Cookie";
    p_cookie_note: "It keeps you apart from other buyers. Allow it, and press again.", "用于区分不同的买家。请允许后再试一次。";
    p_foreign: "The request came from elsewhere", "请求来自其他网站";
    p_foreign_note: "Nothing was done. Open the sale here and press the button yourself.", "没有执行任何操作。请在本站打开活动页并亲自点击。";
    p_failed: "That did not work", "未能成功";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accepts: &str) -> &'static str {
        Lang::choose(Field::Once(accepts.as_bytes())).tag()
    }

    #[test]
    fn the_best_liked_language_is_spoken() {
        assert_eq!(Lang::choose(Field::Absent), Lang::English);
        let chinese = [
            "zh",
            "zh-CN",
            "ZH-cn",
            "zh-Hans-CN,zh;q=0.9,en;q=0.8",
            "de, zh;q=0.1",
            "en;q=0.8, zh;q=0.9",
            "en;q=0, zh;q=0.001",
            "fr;q=1, zh-TW ; q=0.5",
            "*;q=0.1, zh;q=0.2",
        ];
        for accepts in chinese {
            assert_eq!(chosen(accepts), "zh-CN", "{accepts}");
        }
        let english = [
            "",
            "en",
            "en-GB,zh;q=0.9",
            "de-DE, fr",
            "zh;q=0",
            "zh;q=x, en;q=0.1",
            "en;q=0.9, zh;q=0.9",
            "*",
            "zhx",
            "en, zh",
            "zh;q=0.1, *;q=0.2",
            ";;,,",
            "zh;q=1.1",
        ];
        for accepts in english {
            assert_eq!(chosen(accepts), "en", "{accepts}");
        }
    }

    #[test]
    fn every_text_is_there_in_both_languages() {
        let (english, chinese) = (ENGLISH.all(), CHINESE.all());
        assert_eq!(english.len(), chinese.len());
        for ((name, en), (_, zh)) in english.into_iter().zip(chinese) {
            assert!(!en.trim().is_empty() && !zh.trim().is_empty(), "{name}");
            let translated = zh.chars().any(|c| c > '\u{2e80}') && en != zh;
            assert!(translated || name == "brand", "{name} is not Chinese: {zh}");
            assert!(en.chars().all(|c| c < '\u{2e80}'), "{name} is not English: {en}");
            for gap in ["{t}", "{n}"] {
                assert_eq!(en.matches(gap).count(), zh.matches(gap).count(), "{name}: {gap}");
            }
        }
    }

    #[test]
    fn the_script_gets_json() {
        for lang in Lang::ALL {
            let words: serde_json::Value = serde_json::from_slice(&lang.words().for_script()).expect("JSON");
            assert_eq!(words["b_open"], lang.words().b_open);
            assert!(words.get("sales").is_none(), "what only the server says is not sent");
        }
    }

    /// Every word that the script asks for is sent to it.
    #[test]
    fn the_script_asks_for_nothing_else() {
        let script = include_str!("../../assets/sale.js");
        let words = String::from_utf8(ENGLISH.for_script()).expect("text");
        let mut asked = 0;
        for (at, _) in script.match_indices("words.") {
            let name: String =
                script[at + 6..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(words.contains(&format!("\"{name}\":")), "words.{name}");
            asked += 1;
        }
        assert!(asked > 10, "the search has gone blind");
    }
}
