"""Own photographs of faces into a posed set: landmarks, pose by perspective-n-point, crop as in FFHQ-EG3D.

`python -m dataset_preprocessing.portraits --help`. Finding landmarks needs the extra `gan3d[portraits]` (mediapipe
0.10.14, whose wheel holds its networks) and the canonical face model, which `fetch-face-model` gets.
"""
