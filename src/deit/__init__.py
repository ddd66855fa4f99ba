"""DeiT, reproduced: convnet teachers, an exact cache of what they say, and students distilled from it."""
