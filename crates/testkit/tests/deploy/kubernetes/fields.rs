//! Each kind's fields, as Kubernetes' own API has them.
//!
//! A document is read as the type that its `apiVersion` and `kind` name, and written again: a field that is not there any more is one
//! that the type does not have.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Namespace, Service},
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{documents, resources};

/// The paths of what is in `written` and not in `read`.
fn lost(written: &Value, read: &Value, path: &str) -> Vec<String> {
    match (written, read) {
        (Value::Object(written), _) => {
            let fields = written.iter();
            fields
                .flat_map(|(key, value)| lost(value, &read[key], &format!("{path}.{key}")))
                .collect()
        }
        (Value::Array(written), _) => {
            let items = written.iter().enumerate();
            items
                .flat_map(|(place, value)| lost(value, &read[place], &format!("{path}[{place}]")))
                .collect()
        }
        _ if written == read => Vec::new(),
        _ => vec![path.to_owned()],
    }
}

/// What is wrong with a document as one of this type.
fn faults_as<T: DeserializeOwned + Serialize>(document: &Value) -> Vec<String> {
    match serde_json::from_value::<T>(document.clone()) {
        Ok(read) => lost(document, &serde_json::to_value(read).expect("JSON"), ""),
        Err(error) => vec![error.to_string()],
    }
}

fn faults(document: &Value) -> Vec<String> {
    let kind = [&document["apiVersion"], &document["kind"]].map(|text| text.as_str().unwrap_or(""));
    match kind {
        ["v1", "Namespace"] => faults_as::<Namespace>(document),
        ["v1", "Service"] => faults_as::<Service>(document),
        ["apps/v1", "Deployment"] => faults_as::<Deployment>(document),
        ["apps/v1", "StatefulSet"] => faults_as::<StatefulSet>(document),
        ["policy/v1", "PodDisruptionBudget"] => faults_as::<PodDisruptionBudget>(document),
        ["networking.k8s.io/v1", "NetworkPolicy"] => faults_as::<NetworkPolicy>(document),
        other => vec![format!("{other:?} is no kind that is known here")],
    }
}

#[test]
fn every_document_has_the_fields_of_its_kind_and_no_other() {
    let resources = resources();
    assert!(resources.len() >= 10, "{}", resources.len());
    for resource in resources {
        let (kind, name) = (&resource["kind"], &resource["metadata"]["name"]);
        assert_eq!(faults(&resource), [""; 0], "{kind} {name}");
    }
}

#[test]
fn a_field_in_the_wrong_place_or_of_the_wrong_type_would_be_found() {
    let greeter = &documents("greeter.yaml")[0];
    let mut misplaced = greeter.clone();
    misplaced["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = "x".into();
    let fault = ".spec.template.spec.containers[0].readynessProbe";
    assert_eq!(faults(&misplaced), [fault]);
    let mut mistyped = greeter.clone();
    mistyped["spec"]["replicas"] = "three".into();
    assert_eq!(faults(&mistyped).len(), 1);
    let mut unknown = greeter.clone();
    unknown["apiVersion"] = "extensions/v1beta1".into();
    assert_eq!(faults(&unknown).len(), 1);
}
