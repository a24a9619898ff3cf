// The dialect in GLSL.
