//! Which shares the policies give, with weights, while endpoints come and go; each bound is said where it is asserted.

mod around;
mod hashing;
mod loads;
mod moving;
mod settings;
mod shares;
mod weighed;

use std::{collections::HashMap, sync::Arc};

use http::HeaderMap;
use registry::{Address, Instance, ServiceName, Weight};
use serde_json::Value;

use super::{
    CallInfo, Candidate, ConnectivityState, Endpoint, Endpoints, LoadReports, Pick, Plan, Policies,
    Policy,
};
use crate::{load::InFlight, options::HashKey, status::Code};

fn policy(name: &str, settings: Value) -> Box<dyn Policy> {
    let config = Policies::default().config(name, settings);
    config
        .expect("good settings")
        .expect("a known name")
        .build()
}

/// An instance of the greeter of that number, with that weight.
fn endpoint(number: usize, weight: u32) -> Arc<Endpoint> {
    let service = ServiceName::new("greeter").expect("a name");
    let address = format!(
        "10.{}.{}.{}:80",
        number >> 16,
        (number >> 8) & 255,
        number & 255
    );
    let address = Address::new(&address).expect("an address");
    let weight = Weight::new(weight).expect("a weight");
    Arc::new(Endpoint::new(
        Instance::new(service, address).with_weight(weight),
    ))
}

fn endpoints(weights: &[u32]) -> Vec<Arc<Endpoint>> {
    weights
        .iter()
        .enumerate()
        .map(|(number, weight)| endpoint(number, *weight))
        .collect()
}

/// From now on the registry says these weights of these endpoints.
fn weigh(endpoints: &[Arc<Endpoint>], weights: &[u32]) {
    for (endpoint, weight) in endpoints.iter().zip(weights) {
        let weight = Weight::new(*weight).expect("a weight");
        let instance = (*endpoint.instance()).clone().with_weight(weight);
        endpoint.now_says(Arc::new(instance));
    }
}

fn candidate(endpoint: &Arc<Endpoint>, state: ConnectivityState) -> Candidate {
    Candidate {
        endpoint: Arc::clone(endpoint),
        state,
        failure: None,
    }
}

fn plan(policy: &mut dyn Policy, candidates: &[Candidate]) -> Plan {
    policy.plan(&Endpoints::new(&candidates.iter().collect::<Vec<_>>()))
}

/// What the policy makes of these, all of them ready.
fn ready(policy: &mut dyn Policy, endpoints: &[Arc<Endpoint>]) -> Plan {
    let candidates: Vec<_> = endpoints
        .iter()
        .map(|e| candidate(e, ConnectivityState::Ready))
        .collect();
    plan(policy, &candidates)
}

fn pick<'p>(plan: &'p Plan, call: &CallInfo<'_>) -> &'p Arc<Endpoint> {
    match plan.picker.pick(call) {
        Pick::Ready(endpoint) => endpoint,
        other => panic!("nothing is ready: {other:?}"),
    }
}

/// The endpoint that a call without any key gets.
fn unkeyed(plan: &Plan) -> Arc<Endpoint> {
    Arc::clone(pick(plan, &CallInfo::new("/a.B/C", &HeaderMap::new())))
}

/// The endpoint that a call with this key gets.
fn keyed(plan: &Plan, key: u64) -> Arc<Endpoint> {
    let headers = HeaderMap::new();
    let call = CallInfo::new("/a.B/C", &headers).with_hash_key(HashKey::of(key.to_be_bytes()));
    Arc::clone(pick(plan, &call))
}

/// How many of the calls each of the endpoints gets, in their order.
fn counts(endpoints: &[Arc<Endpoint>], picks: impl Iterator<Item = Arc<Endpoint>>) -> Vec<u32> {
    let mut found: HashMap<u64, u32> = HashMap::new();
    picks.for_each(|endpoint| *found.entry(endpoint.serial()).or_default() += 1);
    endpoints
        .iter()
        .map(|endpoint| found.remove(&endpoint.serial()).unwrap_or_default())
        .collect()
}

/// The largest error of the shares, relative to the share that the weight asks for.
fn worst(endpoints: &[Arc<Endpoint>], counts: &[u32]) -> f64 {
    let total: f64 = endpoints
        .iter()
        .map(|endpoint| f64::from(endpoint.weight()))
        .sum();
    let calls: u32 = counts.iter().sum();
    let error = |(endpoint, count): (&Arc<Endpoint>, &u32)| {
        let expected = f64::from(endpoint.weight()) / total * f64::from(calls);
        (f64::from(*count) / expected - 1.0).abs()
    };
    endpoints.iter().zip(counts).map(error).fold(0.0, f64::max)
}
