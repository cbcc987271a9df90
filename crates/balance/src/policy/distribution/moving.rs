//! Which keys move when endpoints come and go, and when one of them weighs more or less.

use serde_json::{Value, json};

use super::{Arc, Endpoint, Policy, endpoint, endpoints, keyed, policy, ready, weigh};

const KEYS: u64 = 20_000;

/// The policies that hash, and the share of all keys that may move beside those that must: a ring of 2,000 has 40 entries for
/// each of 50, and 41 for each of 49, so that one in 41 is new. A table moves up to 2 %.
fn hashes() -> [(&'static str, Value, f64); 2] {
    let ring = json!({"minRingSize": 2000, "maxRingSize": 8192});
    [("ring_hash", ring, 0.025), ("maglev", json!({}), 0.02)]
}

/// Whose each key is.
fn owners(policy: &mut dyn Policy, endpoints: &[Arc<Endpoint>]) -> Vec<Arc<Endpoint>> {
    let plan = ready(policy, endpoints);
    (0..KEYS).map(|key| keyed(&plan, key)).collect()
}

fn is(one: &Endpoint, other: &Endpoint) -> bool {
    one.serial() == other.serial()
}

/// The share of the keys that have moved, but for those of which `must` holds: whose it was, and whose it is.
fn moved(
    before: &[Arc<Endpoint>],
    after: &[Arc<Endpoint>],
    must: impl Fn(&Endpoint, &Endpoint) -> bool,
) -> f64 {
    let keys = before.iter().zip(after);
    let wrong = keys.filter(|(was, now)| !is(was, now) && !must(was, now));
    wrong.count() as f64 / KEYS as f64
}

/// The share of the keys that are this endpoint's.
fn share(owners: &[Arc<Endpoint>], endpoint: &Endpoint) -> f64 {
    let own = owners.iter().filter(|owner| is(owner, endpoint));
    own.count() as f64 / KEYS as f64
}

#[test]
fn who_comes_or_goes_moves_only_what_must_move() {
    for (name, settings, bound) in hashes() {
        let mut policy = policy(name, settings);
        let all = endpoints(&[1; 50]);
        let before = owners(&mut *policy, &all);

        let (gone, left) = all.split_last().expect("fifty");
        let after = owners(&mut *policy, left);
        let found = moved(&before, &after, |was, _| is(was, gone));
        assert!(found <= bound, "{name}: {found} moved for one that went");

        let mut more = all.clone();
        more.push(endpoint(50, 1));
        let after = owners(&mut *policy, &more);
        let found = moved(&before, &after, |_, now| is(now, &more[50]));
        assert!(found <= bound, "{name}: {found} moved for one that came");
        let taken = share(&after, &more[50]);
        assert!(
            (0.01..0.03).contains(&taken),
            "{name}: a new one of 51 has {taken}"
        );
    }
}

/// Its share is 1 of 50, 2 of 51, 2 of 50 while another is gone, 1 of 49, and 1 of 50 again.
#[test]
fn who_weighs_more_or_less_moves_only_what_must_move_while_another_goes_and_comes_back() {
    for (name, settings, bound) in hashes() {
        let mut policy = policy(name, settings);
        let all = endpoints(&[1; 50]);
        let (gone, left) = all.split_last().expect("fifty");
        let changing = &all[0];
        let before = owners(&mut *policy, &all);

        weigh(&all[..1], &[2]);
        let heavier = owners(&mut *policy, &all);
        let found = moved(&before, &heavier, |_, now| is(now, changing));
        assert!(found <= bound, "{name}: {found} moved for more weight");
        let gained = share(&heavier, changing) - share(&before, changing);
        assert!((0.01..0.03).contains(&gained), "{name}: {gained} for 0.019");

        let without = owners(&mut *policy, left);
        let found = moved(&heavier, &without, |was, _| is(was, gone));
        assert!(found <= bound, "{name}: {found} moved for one that went");

        weigh(&all[..1], &[1]);
        let lighter = owners(&mut *policy, left);
        let found = moved(&without, &lighter, |was, _| is(was, changing));
        assert!(found <= bound, "{name}: {found} moved for less weight");
        let lost = share(&without, changing) - share(&lighter, changing);
        assert!((0.01..0.03).contains(&lost), "{name}: {lost} for 0.020");

        let again = owners(&mut *policy, &all);
        let found = moved(&before, &again, |_, _| false);
        assert!(found < 1e-9, "{name}: {found} are not where they were");
    }
}
