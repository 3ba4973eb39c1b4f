"""Coordinates and their transforms, without weights.

    boxes, anchors       boxes in volumes, their overlap and offsets; the anchors of a network and their targets
    roi_align            features inside boxes
    regions, resampling  boxes of voxels with the network's grid on them; changes of voxel size
    rigid, graph         registration of point sets; the graph prior of a face
    body_frame           one position and direction for all bodies, by their midline
    heatmaps             Gaussian maps of points, and points from maps
    letterbox            a 2D image in the network's frame
    ellipse              the ellipse of a head
    head_labels          the four landmarks of a head: order, checks, policies
"""
