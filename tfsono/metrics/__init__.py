"""Metrics of one case at a time, in millimetres, without TensorFlow or Keras.

    overlap        Dice, Jaccard, precision, recall and volumes of two masks
    surface        distances between the surfaces of two masks; `segmentation_metrics` is everything at once
    displacement   the shift of a reference mask that agrees best with a prediction
    landmarks      radial errors, and the area under the PCK curve
    calibration    the probability that a landmark is right by its heatmap's peaks, and whether it is true
    intervals      intervals of lengths by the errors of images that were not trained on
    spread         how far the members of an ensemble are apart
    detection      hit rate and average precision of boxes
    biometry       BPD, OFD, HC and gestational age
    growth         z-scores and centiles of HC and BPD for a known age
    head_appearance  how a head looks along its ellipse, and how far that is from the training's heads
    face_case, femur_case, head_case, pose_case   all metrics of one case of a system
    pose_limits    lengths and sides that no pose of the training cases has
    agreement      mean, interval, Wilcoxon's test and Bland-Altman limits over the cases

Masks are boolean and [x, y, z], images of heads [y, x]; spacings may be unequal. One policy holds for empty masks. Both
empty: there is nothing to agree on, so overlap and distances are NaN and `absent` is 1, as in nnU-Net
(nnunetv2/evaluation/evaluate_predictions.py: the Dice of 0/0 is NaN, and means are `nanmean`). One empty is the worst
value (overlap 0, every distance the diagonal of the volume) and `undefined` is 1, so that a table counts it instead of
losing it in a mean.
"""
