"""Public data sets as scene folders (to test with) and as npz frames (to train with).

A data set module (scannet, seven_scenes, tum_rgbd, icl_nuim, rgbd_scenes) says which scenes lie under a folder and
yields their frames; `scene_export` writes one scene, `runner` many at once. `options` loads nothing heavy: the
command line is made from it.
"""
