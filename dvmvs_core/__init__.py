"""Dense metric depth from one posed camera: model, engine, data, training and evaluation, without ROS."""

__version__ = "0.1.0"
