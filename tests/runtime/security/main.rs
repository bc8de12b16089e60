//! The classes of known attacks on container runtimes, one module a class.
