"""Image geometry on the host, equal to Pillow, torch and OpenCV to the last bit."""
