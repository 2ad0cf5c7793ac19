"""Posed data sets of textured meshes in front of panoramas, with exact mask and depth.

`python -m dataset_preprocessing.meshes --help` lists the commands. Needs the extra `gan3d[data]`.
"""
