//! Import on real pools (in memory): every kind of archive, every rule of layers, everything that
//! must be refused without leaving a trace.

mod archives;
mod compare;
mod hostile;
mod layers;
mod real;
mod roots;
mod support;
