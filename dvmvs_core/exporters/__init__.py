# Copyright 2026 dvmvs_ros maintainers
# Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance with
# the License. You may obtain a copy of the License at http://www.apache.org/licenses/LICENSE-2.0 Unless required by
# applicable law or agreed to in writing, software distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific language
# governing permissions and limitations under the License.

"""Public data sets as scene folders (to test with) and as npz frames (to train with).

A data set module (scannet, seven_scenes, tum_rgbd, icl_nuim, rgbd_scenes) says which scenes lie under a folder and
yields their frames; `scene_export` writes one scene, `runner` many at once. `options` loads nothing heavy: the
command line is made from it.
"""
