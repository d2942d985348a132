# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Recordings that people have, and public data sets, as scene folders (to test with) and as npz frames (to train with).

A module for each format says which scenes are under a path and yields their frames in our conventions: camera-to-world
poses in metres, x right, y down, z forward; pixel (0, 0) is the centre of the top-left pixel; images without
distortion. `scene_import` writes one scene, `import_runner` many at once. `formats` lists all formats and loads nothing
heavy: the command line is made from it.
"""
