//! Decoder models on lutmul: what is between a prompt and an answer.
//!
//! [`load`] opens a model and makes its linears of codes; [`model`] runs it, by [`linear`], [`ops`] and
//! [`attention`]; [`text`] and [`sample`] are the ends; [`chat`] and [`compare`] what the program does.

pub mod attention;
pub mod chat;
pub mod compare;
pub mod config;
pub mod linear;
pub mod load;
pub mod model;
pub mod ops;
pub mod options;
pub mod sample;
pub mod session;
pub mod speed;
pub mod text;
