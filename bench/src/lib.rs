//! Load generator, paced upstream and TCP floor.
