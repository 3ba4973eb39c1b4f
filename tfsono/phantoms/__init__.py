"""Synthetic data with known references, for tests, the demo and pre-training. No TensorFlow.

distance    signed distances in millimetres, smooth unions, partial volume
fields      smooth random fields, coil shading, slice profile, Rician noise
hip_bones   the drawn anatomy of one hip: femur and pelvis as signed distances
hip_tissue  tissue around the bones: muscles, joint, vessels, fat, skin
hip         one T1-weighted hip with its femur mask
ultrasound  rays, shadow, speckle and logarithmic compression, in 2D and 3D
sweep       a swept 3D probe: tissue -> ultrasound volume
head_anatomy  the drawn anatomy of one fetal head: skull, midline, cavum, choroid plexus
head        one 2D ultrasound image of a fetal head with its mask, ellipse and points
head_points  its points with the faults of a careless table
femur_anatomy  the drawn anatomy of one fetal leg
femur       one 3D ultrasound volume of a fetal thigh with its femur's mask and tips
canvas      a painted volume and windows of it
womb        surroundings of a fetus, and the mother's tissue
view        the probe above a whole body, and the body's orientation
pose_skeleton  the posed skeleton of one fetus
pose_flesh, pose_womb  its tissue, and its womb
pose        one 3D ultrasound volume of a whole fetus with its 16 landmarks
face_anatomy  one fetal head and face: sizes by age, its skin, five landmarks
face_flesh, face_surroundings  its tissue, and the hands, cord and womb in front of and around it
face        one 3D ultrasound volume of a fetal face with its five landmarks
shapes      volumes of simple bodies, for pre-training an encoder without C3D weights
dataset     writes any of these in the dataset layout
"""
