"""ROS messages to core types and back: layout, colours and files, no node."""
