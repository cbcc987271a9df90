//! `go-zero`: `core/discov` of zeromicro/go-zero.
//!
//! Key `<service>/<number>`, value `10.0.0.7:50051`. The number is a lease's id, or one that the publisher was given; its
//! readers ask for what begins with `<service>/` and look at the values alone.

use super::{
    DecodeError, Slot,
    codec::{Codec, one_segment},
    plain,
};
use crate::{Instance, ServiceName};

pub(super) struct GoZero;

impl Codec for GoZero {
    fn encode(&self, instance: &Instance, slot: Slot) -> (String, Vec<u8>) {
        (slot.to_string(), instance.address().as_str().into())
    }

    fn decode(
        &self,
        service: &ServiceName,
        suffix: &str,
        value: &[u8],
    ) -> Result<Instance, DecodeError> {
        const ALLOWED: &str = "a key ends with the number of a lease";
        if !is_number(one_segment(suffix)?) {
            return Err(DecodeError::invalid_key_but(suffix.as_bytes(), ALLOWED));
        }
        plain::instance(service, value)
    }

    fn service_of(&self, key: &str) -> Option<ServiceName> {
        let (service, number) = key.rsplit_once('/')?;
        is_number(number).then(|| ServiceName::new(service).ok())?
    }
}

/// Whether it is what Go writes for an `int64` that is not negative.
fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok()
}
