//! The wire: .proto files, generated code, conversions to and from the model.
