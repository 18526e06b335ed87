//! Messages on the wire: generated Connect services and REST bodies.
