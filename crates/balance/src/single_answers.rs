//! Which methods answer with one message, by what their descriptors say.

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;
use rustc_hash::FxHashSet;

/// The paths of methods whose answer is one message, and no stream of them.
#[derive(Debug, Default)]
pub(crate) struct SingleAnswers(FxHashSet<Box<str>>);

impl SingleAnswers {
    /// Adds those of an encoded `google.protobuf.FileDescriptorSet`.
    pub(crate) fn learn(&mut self, set: &[u8]) -> Result<(), DecodeError> {
        for file in FileDescriptorSet::decode(set)?.file {
            let package = match file.package() {
                "" => String::new(),
                package => format!("{package}."),
            };
            for service in &file.service {
                let single = service.method.iter().filter(|m| !m.server_streaming());
                let path = |name| format!("/{package}{}/{name}", service.name());
                self.0
                    .extend(single.map(|m| path(m.name()).into_boxed_str()));
            }
        }
        Ok(())
    }

    /// Whether the method of that path is known to be one of them.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains(path)
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

    use super::{FileDescriptorSet, Message, SingleAnswers};

    #[test]
    fn methods_whose_answer_is_no_stream_are_those() {
        let mut answers = SingleAnswers::default();
        answers.learn(proto::DESCRIPTORS).expect("descriptors");
        let has = |method| answers.has(&format!("/helloworld.Greeter/{method}"));
        assert!(has("SayHello") && answers.has("/user.v1.UserService/GetUser"));
        assert!(!has("SayHelloStreamReply") && !has("SayHelloBidiStream") && !has("SayGoodbye"));
    }

    #[test]
    fn a_service_may_have_no_package_and_its_requests_may_stream() {
        let method = MethodDescriptorProto {
            name: Some("Put".into()),
            client_streaming: Some(true),
            ..MethodDescriptorProto::default()
        };
        let service = ServiceDescriptorProto {
            name: Some("Store".into()),
            method: vec![method],
            ..ServiceDescriptorProto::default()
        };
        let file = FileDescriptorProto {
            service: vec![service],
            ..FileDescriptorProto::default()
        };
        let set = FileDescriptorSet { file: vec![file] };
        let mut answers = SingleAnswers::default();
        answers.learn(&set.encode_to_vec()).expect("descriptors");
        assert!(answers.has("/Store/Put"));
    }

    #[test]
    fn what_is_no_descriptors_is_refused() {
        let error = SingleAnswers::default().learn(b"\x0a\xff");
        assert!(error.is_err(), "{error:?}");
    }
}
