"""Synthetic data with known reference: the embedded default, for tests, the demo and pre-training. No TensorFlow.

distance    signed distances in millimetres, smooth unions, partial volume
fields      smooth random fields, coil shading, slice profile, Rician noise
hip_bones   the drawn anatomy of one hip: femur and pelvis as signed distances
hip_tissue  what lies around the bones: muscles, joint, vessels, fat, skin
hip         one T1-weighted hip with its femur mask
ultrasound  rays, shadow, speckle and logarithmic compression, for pictures and volumes
sweep       a swept 3D probe: what it makes of a volume of tissue
head_anatomy  the drawn anatomy of one fetal head: skull, midline, cavum, choroid plexus
head        one 2D ultrasound picture of a fetal head with its mask, ellipse and points
femur_anatomy  the drawn anatomy of one fetal leg
femur       one 3D ultrasound volume of a fetal thigh with its femur's mask and tips
canvas      a painted volume and windows of it
womb        what surrounds a fetus, and the mother's tissue
view        the probe above a whole body, and the directions in which that lies
pose_skeleton  the posed skeleton of one fetus
pose_flesh, pose_womb  what it is made of, and its womb
pose        one 3D ultrasound volume of a whole fetus with its 16 landmarks
face_anatomy  one fetal head and face: sizes by age, its skin, five landmarks
face_flesh, face_surroundings  what it is made of, and the hands, cord and womb before and around it
face        one 3D ultrasound volume of a fetal face with its five landmarks
shapes      volumes of simple bodies, for pre-training an encoder when no C3D weights are at hand
dataset     any of these written in the dataset layout
"""
