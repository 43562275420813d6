//! Import on real pools (in memory): every kind of archive, every rule of layers, everything that
//! must be refused without leaving a trace.

mod archives;
mod hostile;
mod layers;
mod roots;
mod support;
