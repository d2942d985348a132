"""ROS 2 nodes around `dvmvs_core`: convert, synchronise, call the engine, publish."""
