// A worker: the surface of a volume at a level, by marching cubes.

import vtkDataArray from '@kitware/vtk.js/Common/Core/DataArray.js';
import vtkImageData from '@kitware/vtk.js/Common/DataModel/ImageData.js';
import vtkImageMarchingCubes from '@kitware/vtk.js/Filters/General/ImageMarchingCubes.js';

self.onmessage = ({ data: { id, values, box, level } }) => {
  const image = vtkImageData.newInstance({ origin: [-box / 2, -box / 2, -box / 2] });
  image.setDimensions(box, box, box);
  image.getPointData().setScalars(vtkDataArray.newInstance({ name: 'density', values }));
  const cubes = vtkImageMarchingCubes.newInstance({
    contourValue: level,
    computeNormals: true,
    mergePoints: true,
  });
  cubes.setInputData(image);
  cubes.update();
  const surface = cubes.getOutputData();
  const points = Float32Array.from(surface.getPoints().getData());
  const normals = Float32Array.from(surface.getPointData().getNormals()?.getData() ?? []);
  const polys = Uint32Array.from(surface.getPolys().getData());
  self.postMessage({ id, points, normals, polys }, [points.buffer, normals.buffer, polys.buffer]);
};
